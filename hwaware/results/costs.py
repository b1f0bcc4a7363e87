"""What repairs cost, as ``costs.csv`` keeps it, to stand beside their accuracies."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from hwaware.errors import UserError
from hwaware.results.csv import write_csv
from hwaware.results.row import Row

NAME = "costs.csv"

#: What identifies a line: one method for one network on one device, in one comparison: one of another size may have
#: other ages, and so another number of states to store.
KEY = ("model", "network", "n_samples", "mapping", "device", "device_params", "method", "method_params")

Costs = Mapping[tuple[str, ...], Mapping[str, str]]


def read_costs(path: str | Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The lines of a ``costs.csv`` by :data:`KEY`, as text.

    Raises:
        UserError: the file has other columns.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in (*KEY, "bytes_stored") if name not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}: there is no column '{missing[0]}'; is this a file of costs?")
        return {tuple(line[name] for name in KEY): line for line in reader}


def merge_lines(path: Path, sources: Iterable[Path], key: Iterable[str]) -> None:
    """Adds the lines of CSV files of one header to another such file, in place of those with the same key."""
    key, groups, header = tuple(key), {}, ()
    for source in (path, *sources):
        if not source.exists():
            continue
        with source.open(newline="", encoding="utf-8") as file:
            reader, own = csv.DictReader(file), {}
            if header and tuple(reader.fieldnames) != header:
                raise UserError(f"{source}: its columns are not those of {path}.")
            header = tuple(reader.fieldnames)
            for line in reader:
                own.setdefault(tuple(line[name] for name in key), []).append(line)
            groups |= own
    if groups:
        write_csv(path, header, (line.values() for lines in groups.values() for line in lines))


def key_of(row: Row) -> tuple[str, ...]:
    """What :data:`KEY` names of a row, as text."""
    return tuple(str(getattr(row, name)) for name in KEY)


def cost_of(row: Row, costs: Costs) -> Mapping[str, str] | None:
    """The line for the repair that a row was measured with; None for none."""
    return costs.get(key_of(row))


def bytes_label(count: float) -> str:
    """Bytes as people say them.

    >>> [bytes_label(count) for count in (0, 692, 4153, 7_992_160)]
    ['0 B', '692 B', '4.15 kB', '7.99 MB']
    """
    for size, unit in ((1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
