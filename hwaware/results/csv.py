"""Results as CSV files, written atomically and read back exactly: one line per item, one column per field."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from hwaware.errors import UserError
from hwaware.results.files import replacing
from hwaware.results.row import Row
from hwaware.results.setting import params_of

COLUMNS = tuple(field.name for field in fields(Row))

#: The fields that identify a measurement: two rows that agree in them are repeats of the same measurement.
IDENTITY = (
    "recipe", "model", "network", "dataset", "device", "device_params", "mapping",
    "method", "method_params", "age_s", "chip_seed", "metric", "n_samples", "seed",
)  # fmt: skip


def write_rows(path: str | Path, rows: Iterable[Row]) -> Path:
    """Writes rows as CSV, one column per field of ``Row`` in its order; returns the path.

    The file is replaced atomically: a reader, or a run that is killed meanwhile, sees either the old or the new rows.
    """
    return write_items(path, Row, rows)


def read_rows(path: str | Path) -> list[Row]:
    """Reads a file of :func:`write_rows`, with every float exact to the last bit.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the file has another form; the message names file, line and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no rows at '{path}': an evaluation writes them as rows.csv into its run's folder.")
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = tuple(next(reader, ()))
            if header != COLUMNS:
                raise UserError(f"{path}, line 1: {_wrong_header(header)}")
            for cells in reader:
                if len(cells) != len(COLUMNS):
                    raise UserError(
                        f"{path}, line {reader.line_num}: {len(cells)} columns instead of {len(COLUMNS)}; "
                        f"is the last one '{COLUMNS[-1]}'?"
                    )
                rows.append(_finite(parse(Row, cells, path, reader.line_num), path, reader.line_num))
        except (csv.Error, UnicodeDecodeError) as error:
            line = reader.line_num + isinstance(error, UnicodeDecodeError)  # the reader never got that line
            raise UserError(f"{path}, line {line}: not a CSV file of rows ({error}).") from error
    return rows


def _finite(row: Row, path: Path, line: int) -> Row:
    for name in ("age_s", "value", "drift_free", "base_digital"):
        if not math.isfinite(getattr(row, name)):
            raise UserError(f"{path}, line {line}, column '{name}': {getattr(row, name)} is not finite.")
    return row


def merge_rows(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Old rows in their order, replaced by new measurements where there are any, followed by the other new rows."""
    identity = attrgetter(*IDENTITY)
    merged = {identity(row): row for row in old}
    merged.update({identity(row): row for row in new})
    return list(merged.values())


def write_items(path: str | Path, kind: type, items: Iterable[Any]) -> Path:
    """Writes items of a dataclass to a CSV file, one column per field; returns its path."""
    names = tuple(field.name for field in fields(kind))
    return write_csv(path, names, map(attrgetter(*names), items))


def write_csv(path: str | Path, header: Iterable[str], lines: Iterable[Iterable[Any]]) -> Path:
    """Writes a CSV file atomically; returns its path."""
    with replacing(path) as binary:
        file = io.TextIOWrapper(binary, newline="", encoding="utf-8")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_text(value) for value in line] for line in lines)
        file.detach()  # flushes, and leaves the file open
    return Path(path)


def parse(kind: type, cells: Sequence[str], path: Path, line: int) -> Any:
    """Builds an item of a dataclass from the cells of a line, in the order of its fields.

    Raises:
        UserError: a cell does not have its field's type; the message names file, line and column.
    """
    values = []
    for (name, read, what), cell in zip(_readers(kind), cells, strict=True):
        try:
            values.append(read(cell))
        except ValueError as error:
            raise UserError(f"{path}, line {line}, column '{name}': '{cell[:40]}' is not {what}.") from error
    return kind(*values)


@cache
def _readers(kind: type) -> tuple[tuple[str, Callable[[str], Any], str], ...]:
    """For each field of a dataclass: its name, its parser, and its type in words."""
    return tuple((field.name, *_reader(field.name, str(field.type))) for field in fields(kind))


def _reader(name: str, annotation: str) -> tuple[Callable[[str], Any], str]:
    if name.endswith("_params"):
        return _json_object, "a JSON object"
    return {"float": (float, "a number"), "int": (int, "a whole number"), "str": (str, "text")}[annotation]


def _json_object(text: str) -> str:
    params_of(text)  # raises if it is not an object
    return text


def _text(value: Any) -> str:
    # repr is the shortest text that reads back as the same float. 3600 and 3600.0 must not differ in a diff.
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _wrong_header(header: tuple[str, ...]) -> str:
    if not header:
        return "the file is empty; rows start with a header line."
    for place, (found, expected) in enumerate(zip(header, COLUMNS, strict=False), start=1):
        if found != expected:
            return f"column {place} is '{found}' instead of '{expected}'; is this a file of rows?"
    return f"{len(header)} columns instead of {len(COLUMNS)} (from '{COLUMNS[0]}' to '{COLUMNS[-1]}')."
