#!/usr/bin/env python
"""Merges runs' rows into one folder's, with their summary, costs, plots and report; what is there already is replaced.

python scripts/merge_rows.py results/cifar10_resnet20 runs/*/version_*/rows.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hwaware.metrics.chance import chance_of_classes, chance_of_questions
from hwaware.report.html import write_report
from hwaware.report.run_folder import write_results
from hwaware.results.costs import KEY, costs_in, merge_lines
from hwaware.results.costs import NAME as COSTS
from hwaware.results.csv import merge_rows, read_rows
from hwaware.results.timetable import NAME as TIMETABLE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("sources", type=Path, nargs="+")
    parser.add_argument("--classes", type=int, help="of the data, for A* in the summary")
    parser.add_argument("--no_answer", type=float, help="percent of the questions that have no answer, for the same")
    arguments = parser.parse_args()
    target = arguments.folder / "rows.csv"
    rows = read_rows(target) if target.exists() else []
    for source in arguments.sources:
        rows = merge_rows(rows, read_rows(source))
    for name in (COSTS, TIMETABLE):
        merge_lines(arguments.folder / name, [source.parent / name for source in arguments.sources], KEY)
    if arguments.classes is not None:
        chance = chance_of_classes(arguments.classes)
    else:
        chance = {} if arguments.no_answer is None else chance_of_questions(arguments.no_answer)
    costs = costs_in(arguments.folder)
    sections = write_results(rows, arguments.folder, costs, chance)
    report = write_report(arguments.folder, sections, costs=costs)
    print(f"{len(rows)} rows: {target}", *(plot for section in sections for plot in section.figures), report, sep="\n")


if __name__ == "__main__":
    main()
