"""Costs of repairs: the rows of ``costs.csv``, to compare with their accuracies."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from hwaware.errors import UserError
from hwaware.results.csv import parse, write_csv, write_items
from hwaware.results.row import RepairLabels, Row

NAME = "costs.csv"

#: The fields that identify a line.
KEY = tuple(field.name for field in fields(RepairLabels))


@dataclass(frozen=True)
class CostLine(RepairLabels):
    """Cost of one repair.

    Attributes:
        sets: number of stored states, one for each drift level.
        bytes_stored: bytes in digital memory: parameters of all drift levels, and stored samples.
        extra_macs_percent: extra multiply-accumulates per inference, in percent of the network's.
        images_kept, labels_kept: samples and labels that must be stored in the field.
        cell_reads, cell_writes: cell operations per calibration.
        update_time_s, update_time_slow_s: write time (s) of one calibration, for fast and for slow cells.
        trainable_percent: fitted parameters, in percent of the network's.
        commit, version: commit and version of the source that counted.
    """

    sets: int
    bytes_stored: float
    extra_macs_percent: float
    images_kept: int
    labels_kept: int
    cell_reads: int
    cell_writes: int
    update_time_s: float
    update_time_slow_s: float
    trainable_percent: float
    commit: str
    version: str


Costs = Mapping[RepairLabels, CostLine]


def by_repair(lines: Iterable[CostLine]) -> dict[RepairLabels, CostLine]:
    """Lines by repair."""
    return {RepairLabels.of(line): line for line in lines}


def cost_of(row: Row, costs: Costs) -> CostLine | None:
    """The line of the repair that a row was measured with; None if there is none."""
    return costs.get(RepairLabels.of(row))


def write_costs(path: str | Path, lines: Iterable[CostLine]) -> Path:
    """Writes (or replaces) a ``costs.csv``; returns its path."""
    return write_items(path, CostLine, lines)


def read_costs(path: str | Path) -> dict[RepairLabels, CostLine]:
    """The lines of a ``costs.csv``.

    Raises:
        UserError: the file has other columns, or a cell is not a number; the message names file, line and column.
    """
    names, path = [field.name for field in fields(CostLine)], Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        missing = [name for name in names if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: there is no column '{missing[0]}'; is this a file of costs?")
        return by_repair(parse(CostLine, [line[name] for name in names], path, reader.line_num) for line in reader)


def costs_in(folder: Path) -> dict[RepairLabels, CostLine]:
    """The costs of repairs in a run's folder; empty without a ``costs.csv``."""
    return read_costs(folder / NAME) if (folder / NAME).exists() else {}


def merge_lines(path: Path, sources: Iterable[Path], key: Iterable[str]) -> None:
    """Merges CSV files with the same header into another one; lines with the same key are replaced."""
    key = tuple(key)
    header: tuple[str, ...] = ()
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for source in (path, *sources):
        if not source.exists():
            continue
        with source.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            own: dict[tuple[str, ...], list[dict[str, str]]] = {}
            columns = tuple(reader.fieldnames or ())
            if header and columns != header:
                raise UserError(f"{source}: its columns are not those of {path}.")
            header = columns
            for line in reader:
                own.setdefault(tuple(line[name] for name in key), []).append(line)
            groups |= own
    if groups:
        write_csv(path, header, (line.values() for lines in groups.values() for line in lines))


def bytes_label(count: float) -> str:
    """Bytes with a readable unit.

    >>> [bytes_label(count) for count in (0, 692, 4153, 7_992_160)]
    ['0 B', '692 B', '4.15 kB', '7.99 MB']
    """
    for size, unit in ((1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
