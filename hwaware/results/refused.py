"""Repairs that were not installed, since they would do harm, as ``refused.csv`` keeps them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from hwaware.errors import UserError
from hwaware.results.csv import parse, write_items
from hwaware.results.row import Row

NAME = "refused.csv"

#: What a line is of: a repair of a network on a device; see :class:`hwaware.results.row.Row`.
OF = ("network", "device", "device_params", "mapping", "method", "method_params")


@dataclass(frozen=True)
class Refusal:
    """One chip at one age on which a repair was not installed.

    Attributes:
        chip_seed: of the chip.
        age_s: its age (s).
        error_before, error_after: of the network's last output on the stored samples, without the repair and with it:
            squares of its difference from the exact network's, over the squares of that.
    """

    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


@dataclass(frozen=True)
class RefusedLine:
    """The same with what it is of; see :class:`hwaware.results.row.Row`."""

    network: str
    device: str
    device_params: str
    mapping: str
    method: str
    method_params: str
    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


def refused_lines(row: Row, refusals: Iterable[Refusal]) -> list[RefusedLine]:
    """The lines of the repair that a row is of."""
    about = (row.network, row.device, row.device_params, row.mapping, row.method, row.method_params)
    ordered = sorted(refusals, key=lambda one: (one.chip_seed, one.age_s))
    return [RefusedLine(*about, one.chip_seed, one.age_s, one.error_before, one.error_after) for one in ordered]


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
