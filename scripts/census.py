#!/usr/bin/env python
"""Tries every classifier architecture of the installed timm: into cells, ten years on a chip, and back.

    python scripts/census.py --out results/census.csv                        # some hours on one core
    python scripts/census.py --out results/census.csv --filter 'resnet*'     # some of them

Goes on where it stopped: what the file has is not tried again (drop lines to try them again). Ends with a summary, and
with status 1 if an architecture failed without being refused.
"""

from __future__ import annotations

import argparse
import collections
import csv
import gc
import warnings
from dataclasses import astuple, fields
from importlib.metadata import version
from pathlib import Path

import timm
from rich.progress import track

from hwaware.census import Finding, examine
from hwaware.devices import load_device
from hwaware.evaluation import commit
from hwaware.report.rows import write_csv

HEADER = [field.name for field in fields(Finding)] + ["timm", "commit", "version"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--filter", default="*", help="timm's pattern of names")
    parser.add_argument("--max-parameters", type=float, default=150e6, help="larger ones are converted without memory")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    lines = []
    if arguments.out.exists():
        with arguments.out.open(newline="") as file:
            lines = list(csv.reader(file))[1:]
    there = {line[0] for line in lines}
    device, about = load_device("reram_cmo"), (version("timm"), commit(), version("hwaware"))
    names = [name for name in timm.list_models(arguments.filter) if name not in there]
    for name in track(names, description="architectures"):
        lines.append([*astuple(examine(name, device, arguments.max_parameters)), *about])
        write_csv(arguments.out, HEADER, lines)
        gc.collect()
    counts = collections.Counter(str(line[1]) for line in lines)
    print(f"{len(lines)} architectures: {', '.join(f'{count} {status}' for status, count in counts.most_common())}")
    for line in lines:
        if line[1] in ("refused", "failed"):
            print(f"{line[1]}: {line[0]}: {line[2]}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
