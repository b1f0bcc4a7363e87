#!/usr/bin/env python
"""Merges runs' rows into one file; a measurement that is there already is replaced.

    python scripts/merge_rows.py results/cifar10_resnet20/rows.csv runs/*/version_*/rows.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hwaware.report.rows import merge_rows, read_rows, write_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    arguments = parser.parse_args()
    rows = read_rows(arguments.target) if arguments.target.exists() else []
    for source in arguments.sources:
        rows = merge_rows(rows, read_rows(source))
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    write_rows(arguments.target, rows)
    print(f"{len(rows)} rows: {arguments.target}")


if __name__ == "__main__":
    main()
