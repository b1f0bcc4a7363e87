"""Repairs that were not installed because they would do harm: the rows of ``refused.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path

from hwaware.errors import UserError
from hwaware.results.csv import IDENTITY, parse, write_items
from hwaware.results.row import Row

NAME = "refused.csv"

#: The fields that identify a chip's repair at an age, and a repair; see :class:`hwaware.results.row.Row`.
CASE = tuple(name for name in IDENTITY if name != "metric")
OF = tuple(name for name in CASE if name not in ("chip_seed", "age_s"))

#: The identity of a line or a row.
case_of = attrgetter(*CASE)


@dataclass(frozen=True)
class Refusal:
    """One chip at one age on which a repair was not installed.

    Attributes:
        chip_seed: seed of the chip.
        age_s: age (s) of the chip.
        error_before, error_after: error of the network's last output on the stored samples, without and with the
            repair: the task's divergence (nats) from the exact network.
    """

    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


@dataclass(frozen=True)
class RefusedLine:
    """A refusal with the labels of its repair; see :class:`hwaware.results.row.Row`."""

    recipe: str
    model: str
    network: str
    dataset: str
    device: str
    device_params: str
    mapping: str
    method: str
    method_params: str
    n_samples: int
    seed: int
    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


def refused_lines(row: Row, refusals: Iterable[Refusal]) -> list[RefusedLine]:
    """The lines for the repair of a row."""
    about = {name: getattr(row, name) for name in OF}
    ordered = sorted(refusals, key=lambda one: (one.chip_seed, one.age_s))
    return [RefusedLine(**about, **asdict(one)) for one in ordered]


def merge_refused(old: Iterable[RefusedLine], rows: Iterable[Row], new: Iterable[RefusedLine]) -> list[RefusedLine]:
    """Old lines, with those of repeated measurements replaced by new lines (if there are any).

    Args:
        old: the old lines.
        rows: the new measurements.
        new: the new lines.
    """
    again = set(map(case_of, rows))
    return [*(line for line in old if case_of(line) not in again), *new]


def refused_in(folder: Path) -> list[RefusedLine]:
    """The refused repairs in a run's folder; empty without a ``refused.csv``."""
    return read_refused(folder / NAME) if (folder / NAME).exists() else []


def read_refused(path: str | Path) -> list[RefusedLine]:
    """Reads a file of :func:`write_refused`, with every float exact to the last bit.

    Raises:
        UserError: the file has another form; the message names file, line and column.
    """
    columns = [field.name for field in fields(RefusedLine)]
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if next(reader, []) != columns:
            raise UserError(f"{path}, line 1: not a file of refused repairs, whose columns are {', '.join(columns)}.")
        lines = []
        for cells in reader:
            if len(cells) != len(columns):
                raise UserError(f"{path}, line {reader.line_num}: {len(cells)} columns instead of {len(columns)}.")
            lines.append(parse(RefusedLine, cells, Path(path), reader.line_num))
    return lines


def write_refused(path: str | Path, lines: Iterable[RefusedLine]) -> Path:
    """Writes refused repairs as CSV; returns the path."""
    return write_items(path, RefusedLine, lines)
