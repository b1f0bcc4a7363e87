#!/usr/bin/env python
"""Result rows of a fixed set of small runs, to check whether a code change alters results.

    python scripts/golden_rows.py --check tests/golden/rows.csv       computes them again and compares
    python scripts/golden_rows.py --check tests/golden/rows.csv --only 'drift_*'
    python scripts/golden_rows.py --only resume                       computes this case's lines again, keeps the others
    python scripts/golden_rows.py                                     writes tests/golden/rows.csv and about.csv

Needs no network and no GPU; two or three minutes on two cores. Everything runs in a temporary folder, through the
command line and the few names of ``import hwaware``. The cases are in ``tests/golden/cases``.

A line is ``case,key,value``: the key identifies a number, the value is its text. ``device_params`` (JSON) is a separate
line, one per case. In a comparison it may have additional keys, which are reported, but none may be missing.

Floating-point results are equal bit for bit only on one kind of processor and one version of torch; ``about.csv``
beside the rows names both. Elsewhere the comparison says so and allows for rounding: 2 points for percentages (a few of
the 359 test images) and 1 % for all other numbers; hashes are left out.

If a change is meant to alter results, commit it and check all cases: only those that it concerns may differ. Write
these with ``--only``, on the processor and torch version of ``about.csv``, so as not to mix two kinds of lines, and
check in ``git diff`` that no other lines changed. Commit the lines, and say in CHANGELOG.md what differs and why. A new
case is written in the same way. ``about.csv`` then names the package's last commit, with a ``+`` if the package had
changes that were not committed.
"""

from __future__ import annotations

import argparse
import fnmatch
import logging
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"  # sums over threads are rounded otherwise; for the processes that are started too

import torch  # noqa: E402

from tests.golden.cases import CASES  # noqa: E402
from tests.golden.compare import POINTS, RELATIVE, differences  # noqa: E402
from tests.golden.files import MUST_AGREE, about, read, read_about, write  # noqa: E402
from tests.golden.making import make_all  # noqa: E402

GOLDEN = ROOT / "tests" / "golden" / "rows.csv"

#: Differences that are shown of a case.
_SHOWN = 5


def check(file: Path, names: list[str], folder: Path, jobs: int) -> int:
    """Makes cases anew and prints how they compare; returns how many differ."""
    wanted, here, there = read(file), about(), read_about(file)
    other = [what for what in MUST_AGREE if here[what] != there.get(what)]
    for what in other:
        print(f"another {what}: {there.get(what, 'unknown')} there, {here[what]} here")
    if other:
        print(f"so that only numbers are compared: {POINTS:g} points of a percentage, {100 * RELATIVE:g} % of others")
    differ = 0
    for name, lines in make_all(names, folder, jobs).items():
        if name not in wanted:
            print(f"{name}: not in {file}")
            differ += 1
            continue
        wrong, told = differences(wanted[name], lines, exact=not other)
        print(f"{name}: {f'{len(wrong)} of {len(wanted[name])} lines differ' if wrong else 'equal'}", flush=True)
        for line in (*told, *wrong[:_SHOWN]):
            print(f"    {line}", flush=True)
        differ += bool(wrong)
    print(f"{differ} of {len(names)} cases differ")
    return differ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDEN, help="file to write")
    parser.add_argument("--check", type=Path, help="a file of rows to compare with; nothing is written then")
    parser.add_argument("--only", action="append", help="a case, or a pattern of cases; may be given again")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--list", action="store_true", help="print the cases")
    options = parser.parse_args()
    patterns = options.only or ["*"]
    names = [name for name in CASES if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if options.list:
        print(*names, sep="\n")
        return 0
    if not names:
        parser.error(f"no case is named {' or '.join(patterns)}: see --list")
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        if options.check:
            return int(check(options.check, names, Path(folder), options.jobs) > 0)
        kept = read(options.out) if options.only and options.out.exists() else {}
        kept |= make_all(names, Path(folder), options.jobs)
        write(options.out, {name: kept[name] for name in [*CASES, *kept] if name in kept})
        print(f"{sum(map(len, kept.values()))} lines of {len(kept)} cases: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
