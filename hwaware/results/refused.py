"""Repairs that were not installed, since they would do harm, as ``refused.csv`` keeps them."""

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

#: What a chip's repair at an age is known by, and a repair itself; see :class:`hwaware.results.row.Row`.
CASE = tuple(name for name in IDENTITY if name != "metric")
OF = tuple(name for name in CASE if name not in ("chip_seed", "age_s"))

#: The case of a line, or of a row.
case_of = attrgetter(*CASE)


@dataclass(frozen=True)
class Refusal:
    """One chip at one age on which a repair was not installed.

    Attributes:
        chip_seed: of the chip.
        age_s: its age (s).
        error_before, error_after: of the network's last output on the stored samples, without the repair and with it:
            its divergence from the exact network's (nats), as the task has it.
    """

    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


@dataclass(frozen=True)
class RefusedLine:
    """The same with what it is of; see :class:`hwaware.results.row.Row`."""

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
    """The lines of the repair that a row is of."""
    about = {name: getattr(row, name) for name in OF}
    ordered = sorted(refusals, key=lambda one: (one.chip_seed, one.age_s))
    return [RefusedLine(**about, **asdict(one)) for one in ordered]


def merge_refused(old: Iterable[RefusedLine], rows: Iterable[Row], new: Iterable[RefusedLine]) -> list[RefusedLine]:
    """Old lines, but of what was measured again the new ones, if any.

    Args:
        old: lines of before.
        rows: what was measured now.
        new: the lines of those.
    """
    again = set(map(case_of, rows))
    return [*(line for line in old if case_of(line) not in again), *new]


def refused_in(folder: Path) -> list[RefusedLine]:
    """What a run's folder says of repairs that were not installed; nothing without a ``refused.csv``."""
    return read_refused(folder / NAME) if (folder / NAME).exists() else []


def read_refused(path: str | Path) -> list[RefusedLine]:
    """Reads what ``write_refused`` wrote, every float to the last bit.

    Raises:
        UserError: the file is not of that form; the message names file, line and column.
    """
    columns = [field.name for field in fields(RefusedLine)]
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if next(reader, []) != columns:
            raise UserError(f"{path}, line 1: no file of refused repairs, whose columns are {', '.join(columns)}.")
        lines = []
        for cells in reader:
            if len(cells) != len(columns):
                raise UserError(f"{path}, line {reader.line_num}: {len(cells)} columns instead of {len(columns)}.")
            lines.append(parse(RefusedLine, cells, Path(path), reader.line_num))
    return lines


def write_refused(path: str | Path, lines: Iterable[RefusedLine]) -> Path:
    """Writes them as CSV, and returns the path."""
    return write_items(path, RefusedLine, lines)
