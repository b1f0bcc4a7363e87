#!/usr/bin/env python
"""Tries every architecture of the installed timm or transformers: into cells, ten years on a chip, and back.

    python results/census/census.py --out census.csv                        # some hours on one core
    python results/census/census.py --out census.csv --filter 'resnet*'     # some of them
    python results/census/census.py --out census_readers.csv --task question-answering    # small ones: seconds

Classifiers are timm's; readers those that transformers' AutoModelForQuestionAnswering knows. Goes on where it stopped:
what the file has is not tried again (drop lines to try them again). Ends with a summary, and with status 1 if an
architecture failed without being refused.
"""

from __future__ import annotations

import argparse
import collections
import csv
import fnmatch
import gc
import warnings
from dataclasses import astuple, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path

import timm
from rich.progress import track
from timm_census import Finding, examine
from transformers_census import architectures, examine_reader

from hwaware.hardware import load_hardware
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit

#: The library of each task's architectures.
LIBRARIES = {"image-classification": "timm", "question-answering": "transformers"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", choices=LIBRARIES, default="image-classification", help="of the architectures")
    parser.add_argument("--filter", default="*", help="pattern of names")
    parser.add_argument("--max-parameters", type=float, default=150e6, help="larger classifiers run without memory")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    lines = []
    if arguments.out.exists():
        with arguments.out.open(newline="") as file:
            lines = list(csv.reader(file))[1:]
    there = {line[0] for line in lines}
    library = LIBRARIES[arguments.task]
    header = [field.name for field in fields(Finding)] + [library, "commit", "version"]
    hardware, about = load_hardware("reram_cmo"), (version(library), commit(), version("hwaware"))
    if library == "timm":
        names, examined = timm.list_models(arguments.filter), partial(examine, max_parameters=arguments.max_parameters)
    else:
        names, examined = fnmatch.filter(architectures(), arguments.filter), examine_reader
    for name in track([name for name in names if name not in there], description="architectures"):
        lines.append([*astuple(examined(name, hardware)), *about])
        write_csv(arguments.out, header, lines)
        gc.collect()
    counts = collections.Counter(str(line[1]) for line in lines)
    print(f"{len(lines)} architectures: {', '.join(f'{count} {status}' for status, count in counts.most_common())}")
    for line in lines:
        if line[1] in ("refused", "failed"):
            print(f"{line[1]}: {line[0]}: {line[2]}")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
