"""What repairs cost, as ``costs.csv`` keeps it, to stand beside their accuracies."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from hwaware.errors import UserError
from hwaware.results.csv import parse, write_csv, write_items
from hwaware.results.row import RepairLabels, Row

NAME = "costs.csv"

#: What identifies a line.
KEY = tuple(field.name for field in fields(RepairLabels))


@dataclass(frozen=True)
class CostLine(RepairLabels):
    """What one repair costs.

    Attributes:
        sets: states that have to be stored, one for each drift level.
        bytes_stored: parameters of all drift levels and samples kept, in digital memory.
        extra_macs_percent: multiply-accumulates per inference, of those of the network.
        images_kept, labels_kept: samples and labels that have to be kept in the field.
        cell_reads, cell_writes: per calibration.
        update_time_s, update_time_slow_s: of one calibration, with cells that are written fast, and slowly.
        trainable_percent: parameters fitted, of the network's.
        commit, version: of the source that counted.
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
    """Lines by what they are of."""
    return {RepairLabels.of(line): line for line in lines}


def cost_of(row: Row, costs: Costs) -> CostLine | None:
    """The line for the repair that a row was measured with; None for none."""
    return costs.get(RepairLabels.of(row))


def write_costs(path: str | Path, lines: Iterable[CostLine]) -> Path:
    """Replaces a ``costs.csv``, and returns its path."""
    return write_items(path, CostLine, lines)


def read_costs(path: str | Path) -> dict[RepairLabels, CostLine]:
    """The lines of a ``costs.csv``.

    Raises:
        UserError: the file has other columns, or a cell is no number; the message names file, line and column.
    """
    names, path = [field.name for field in fields(CostLine)], Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        missing = [name for name in names if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: there is no column '{missing[0]}'; is this a file of costs?")
        return by_repair(parse(CostLine, [line[name] for name in names], path, reader.line_num) for line in reader)


def costs_in(folder: Path) -> dict[RepairLabels, CostLine]:
    """What a run's folder says of the costs of repairs; nothing without a ``costs.csv``."""
    return read_costs(folder / NAME) if (folder / NAME).exists() else {}


def merge_lines(path: Path, sources: Iterable[Path], key: Iterable[str]) -> None:
    """Adds the lines of CSV files of one header to another such file, in place of those with the same key."""
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
    """Bytes as people say them.

    >>> [bytes_label(count) for count in (0, 692, 4153, 7_992_160)]
    ['0 B', '692 B', '4.15 kB', '7.99 MB']
    """
    for size, unit in ((1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
