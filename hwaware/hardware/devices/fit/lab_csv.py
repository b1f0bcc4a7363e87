"""CSV files from instruments and spreadsheets: encodings, lines before the header, units in column names."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwaware.errors import UserError, nearest_path
from hwaware.system.reading import refuse_special

#: Units at the end of column names, with factors to µS and s.
SIEMENS = {"us": 1.0, "ns": 1e-3, "ms": 1e3, "s": 1e6}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0, "d": 86400.0}
#: Units of resistances, with factors to MΩ, whose inverse is µS. In lower case, milliohm would look like megohm.
OHMS = {"ohm": 1e-6, "ohms": 1e-6, "kohm": 1e-3, "kohms": 1e-3, "MOhm": 1.0, "Mohm": 1.0}

_NAMED = 5


@dataclass(frozen=True)
class LabCsv:
    """A CSV file's header and rows.

    Attributes:
        path: path of the file.
        before: lines before the header.
        header: names of the columns.
        body: line numbers and fields of non-empty rows.
    """

    path: Path
    before: tuple[str, ...]
    header: tuple[str, ...]
    body: tuple[tuple[int, tuple[str, ...]], ...]

    def rows(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Line numbers and rows, each with as many fields as the header has.

        Raises:
            UserError: a row has fewer or more.
        """
        for line, row in self.body:
            # An empty field beyond the header is a comma at the end of the line.
            row = row[: len(self.header)] + tuple(field for field in row[len(self.header) :] if field)
            if len(row) != len(self.header):
                raise UserError(f"'{self.path}' line {line} has {len(row)} fields; the header has {len(self.header)}.")
            yield line, row


def read_csv(path: str | Path, quantities: Collection[str]) -> LabCsv:
    """Reads a file in UTF-8, UTF-16 or Latin-1. The header is the first line that names three of the quantities.

    Fields are separated by commas, or by semicolons or tabs if the header has no comma.

    Raises:
        UserError: the file can't be read.
    """
    path = Path(path)
    try:
        refuse_special(path, "measurements")
        text = _decoded(path.read_bytes())
        before, header, body = _parts(text, ",", quantities)
        if len(header) == 1 and (separator := re.search(r"[;\t]", header[0])):
            before, header, body = _parts(text, separator[0], quantities)
    except FileNotFoundError:
        raise UserError(f"there are no measurements '{path}'. {nearest_path(path)}".rstrip()) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"measurements '{path}' can't be read: {reason}.") from None
    return LabCsv(path, before, header, body)


def _parts(
    text: str, separator: str, quantities: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[int, tuple[str, ...]], ...]]:
    """The lines before the header, the header, and the rows with their line numbers."""
    table = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows = [(table.line_num, tuple(field.strip() for field in row)) for row in table if any(map(str.strip, row))]
    first = next((place for place, (_, row) in enumerate(rows) if len(_known(row, quantities)) >= 3), 0)
    return tuple(",".join(row) for _, row in rows[:first]), rows[first][1] if rows else (), tuple(rows[first + 1 :])


def quantity_and_unit(name: str) -> tuple[str, str]:
    """A column's quantity, in lower case, and its unit in ASCII.

    Units stand behind an underscore or a space, in brackets, or as DIN 1313 has them.

    >>> [quantity_and_unit(name) for name in ("Time [h]", "G (µS)", "target_us", "t / s")]
    [('time', 'h'), ('g', 'us'), ('target', 'us'), ('t', 's')]
    """
    name = re.sub("[\u00b5\u03bc]", "u", re.sub("[\u03a9\u2126]", "ohm", name.strip()))
    forms = (r"(.+?)[\s_]*[\[(]\s*(\w+)\s*[\])]", r"(.+?)\s*(?:/|\sin\s)\s*(\w+)", r"(.+)[\s_](\w+)")
    found = next(filter(None, (re.fullmatch(form, name) for form in forms)), None)
    quantity, unit = (found[1], found[2]) if found else (name, "")
    return as_word(quantity), unit if unit in OHMS else unit.lower()


def as_word(name: str) -> str:
    """A name in lower case, with underscores between its words."""
    return re.sub(r"[\s.-]+", "_", name.strip().lower())


def named(noun: str, every: Sequence[object]) -> str:
    """Names the first few items and counts the rest: ``cells a, b and 3 more``."""
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return f"{noun}{'s' * (len(every) > 1)} {', '.join(map(str, every[:_NAMED]))}{more}"


def _decoded(data: bytes) -> str:
    """Decodes UTF-8, UTF-16 with a byte order mark, or otherwise Latin-1, which instruments use for µ."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _known(row: Sequence[str], quantities: Collection[str]) -> set[str]:
    """The quantities that a line names if it is a header, for any separator."""
    fields = [field for one in row for field in re.split(r"[;\t]", one)]
    return {name for one in fields for name in (quantity_and_unit(one)[0], as_word(one)) if name in quantities}
