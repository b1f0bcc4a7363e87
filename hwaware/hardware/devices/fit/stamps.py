"""Ages from dates and times, for instruments that write timestamps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hwaware.errors import UserError

#: Names of a column of dates and times, and of a column with the time at which each cell was written.
STAMPS = ("timestamp", "datetime", "date_time", "date")
STARTS = ("start", "start_time", "written", "written_at", "programmed", "programmed_at")

_EXAMPLE = "2026-01-31T09:30:00"
#: A line before the header: ``# written: 2026-01-31 09:30``.
_STATED = re.compile(r"\b(?:start|written|programmed)\b.*?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*)", flags=re.IGNORECASE)


def is_stamp(text: str) -> bool:
    """Whether a text is a date, or a date and time, of ISO 8601."""
    return "-" in text and _parsed(text) is not None


def stamp(text: str, where: str) -> datetime:
    """Parses a date and time of ISO 8601.

    Args:
        text: the text.
        where: its place in the file, for the message.

    Raises:
        UserError: it is not a date and time.
    """
    if (found := _parsed(text)) is None or "-" not in text:
        ages = " Name a column of ages in seconds time_s." if re.fullmatch(r"[\d.eE+]+", text) else ""
        raise UserError(f"{where} '{text}' is not a date and time of ISO 8601 ({_EXAMPLE}).{ages}")
    return found


def stated_start(lines: Sequence[str]) -> str | None:
    """The time at which cells were written, from a line before the header."""
    found = (_STATED.search(line) for line in lines)
    return next((one[1].rstrip(",;.") for one in found if one), None)


def ages_s(
    path: Path,
    lines: Sequence[int],
    cells: Sequence[str],
    stamps: Sequence[datetime],
    starts: Sequence[datetime] | datetime | None,
) -> list[float]:
    """Ages (s) of readings.

    Args:
        path: path of the file, for messages.
        lines: line number of each reading.
        cells: cell of each reading.
        stamps: time of each reading.
        starts: when the cell of each reading, or all cells, were written; None: each cell at its first reading.

    Raises:
        UserError: a reading is before its cell was written, or only some times have a time zone.
    """
    if starts is None:
        first: dict[str, datetime] = {}
        for cell, when in zip(cells, stamps, strict=True):
            _check_zones(path, when, first.get(cell, stamps[0]))
            first[cell] = min(first.get(cell, when), when)
        starts = [first[cell] for cell in cells]
    elif isinstance(starts, datetime):
        starts = [starts] * len(cells)
    found = []
    for line, when, start in zip(lines, stamps, starts, strict=True):
        _check_zones(path, when, start)
        age_s = (when - start).total_seconds()
        if age_s < 0:
            raise UserError(f"'{path}' line {line}: '{when.isoformat()}' is before the start, {start.isoformat()}.")
        found.append(age_s)
    return found


def _check_zones(path: Path, one: datetime, other: datetime) -> None:
    if (one.tzinfo is None) != (other.tzinfo is None):
        raise UserError(
            f"'{path}': '{one.isoformat()}' and '{other.isoformat()}' can't be compared: one has a time zone, the "
            "other has none."
        )


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
