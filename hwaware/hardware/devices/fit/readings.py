"""The CSV of repeated conductance readings.

Its columns are ``cell,target_us,time_s,conductance_us`` and, with repeats, ``reading``; of several dies, ``die``.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwaware.errors import UserError, nearest

#: Units that a column's name may end in, as factors to µS and s.
_SIEMENS = {"us": 1.0, "ns": 1e-3, "ms": 1e3, "s": 1e6}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0, "d": 86400.0}
#: Of resistances, as factors to MΩ, whose inverse is µS. Milliohm would look like it in lower case.
_OHMS = {"ohm": 1e-6, "ohms": 1e-6, "kohm": 1e-3, "kohms": 1e-3, "MOhm": 1.0, "Mohm": 1.0}
_UNITS = {"target": ("us", _SIEMENS), "time": ("s", _SECONDS), "conductance": ("us", _SIEMENS)}

#: How near to a thousandth, a thousand times (a millionth, …) of its target a reading looks like one in another unit.
_NEAR = 1.3

_NAMED = 5


@dataclass(frozen=True)
class Readings:
    """Conductance readings, one element per row of the file that has one, by cell, time and reading.

    Attributes:
        cells: names of the cells; of several dies, ``DIE/CELL``.
        cell: index into them.
        target_us, time_s, conductance_us: what was to be written, the age (0: just written), and what was read.
        visit: readings of a cell at one age share it; numbered from 0.
        left_out: rows without a time or a conductance.
        said: what else was made of the file, in sentences.
        dies: names of the dies; empty where the file names none.
        die: index into them of each cell.
    """

    cells: tuple[str, ...]
    cell: np.ndarray
    target_us: np.ndarray
    time_s: np.ndarray
    conductance_us: np.ndarray
    visit: np.ndarray
    left_out: int = 0
    said: tuple[str, ...] = ()
    dies: tuple[str, ...] = ()
    die: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def n_cells(self) -> int:
        """Cells that have a reading here."""
        return len(np.unique(self.cell))

    @property
    def window_us(self) -> tuple[float, float]:
        """The lowest and the highest target."""
        return float(self.target_us.min()), float(self.target_us.max())

    @property
    def ages_s(self) -> np.ndarray:
        """Distinct ages above 0, ascending."""
        return np.unique(self.time_s[self.time_s > 0])

    def take(self, kept: np.ndarray) -> Readings:
        """The readings where ``kept`` is true; cells keep their numbers."""
        visit = np.unique(self.visit[kept], return_inverse=True)[1]
        columns = ("cell", "target_us", "time_s", "conductance_us")
        return replace(self, **{name: getattr(self, name)[kept] for name in columns}, visit=visit)


def read_measurements(path: str | Path) -> Readings:
    """Readings from a CSV file, in any order.

    Columns are named with their units, in any case and in brackets or not; others of µS and s are converted
    (``conductance_ns``, ``Time [h]``), and resistances are inverted (``resistance_kohm``). A column ``die`` names the
    die of each cell; cells of different dies may have the same name. Other columns, and lines before the header, are
    passed by. A row whose time or conductance is empty is a reading that was not taken.

    Raises:
        UserError: a column is missing or has no known unit, a value is no number or out of range, a cell has two
            targets, a reading is there twice, or some rows look like another unit.
    """
    path = Path(path)
    try:
        table = csv.reader(io.StringIO(_decoded(path.read_bytes()), newline=""))
        rows = [(table.line_num, row) for row in table if any(field.strip() for field in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"measurements '{path}' can't be read: {reason}.") from None
    first = next((place for place, (_, row) in enumerate(rows) if len(_known(row)) >= 3), 0)
    header = [name.strip() for name in rows[first][1]] if rows else []
    columns, said = _columns(path, header)
    names, lines, values, left_out = [], [], [], 0
    die_of_cell: dict[str, str] = {}
    for line, row in rows[first + 1 :]:
        row = row[: len(header)] + [field for field in row[len(header) :] if field.strip()]  # a comma at the end
        if len(row) != len(header):
            raise UserError(f"'{path}' line {line} has {len(row)} fields; the header has {len(header)}.")
        fields = {quantity: row[place].strip() for quantity, (place, _) in columns.items()}
        if not fields["time"] or not fields["conductance"]:
            left_out += 1
            continue
        if not fields.get("die", "-"):
            raise UserError(f"'{path}' line {line}: its die is empty; name one in each row, or leave the column out.")
        names.append(f"{fields['die']}/{fields['cell']}" if "die" in fields else fields["cell"])
        die_of_cell[names[-1]] = fields.get("die", "")
        lines.append(line)
        values.append([_value(path, line, name, fields[name], columns[name][1]) for name in (*_UNITS, "reading")])
    if not names:
        raise UserError(f"'{path}' has no reading.")
    target, time, conductance, reading = np.array(values, dtype=float).T
    cells, cell = np.unique(np.array(names), return_inverse=True)
    found = _sorted(path, cells, cell, target, time, conductance, reading, np.array(lines), left_out, said)
    if "die" not in columns:
        return found
    dies, die = np.unique([die_of_cell[one] for one in found.cells], return_inverse=True)
    return replace(found, dies=tuple(map(str, dies)), die=die)


def _decoded(data: bytes) -> str:
    """UTF-8, UTF-16 where it says so, else Latin-1, in which instruments write µ and Ω's kin."""
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _plain(name: str) -> tuple[str, str]:
    """A column's quantity, in lower case, and its unit in ASCII: ``Time [h]``, ``conductance (µS)``, ``target_us``."""
    name = re.sub("[\u00b5\u03bc]", "u", re.sub("[\u03a9\u2126]", "ohm", name.strip()))
    found = re.fullmatch(r"(.+?)[\s_]*[\[(]\s*(\w+)\s*[\])]", name) or re.fullmatch(r"(.+)[\s_](\w+)", name)
    quantity, unit = (found[1], found[2]) if found else (name, "")
    return re.sub(r"\s+", "_", quantity.strip().lower()), unit if unit in _OHMS else unit.lower()


def _known(header: Sequence[str]) -> set[str]:
    """The quantities that a line names, if it is a header."""
    wanted = {"cell", "target", "time", "conductance", "resistance"}
    return {name for one in header for name in (_plain(one)[0], one.strip().lower()) if name in wanted}


def _columns(path: Path, header: list[str]) -> tuple[dict[str, tuple[int, float]], tuple[str, ...]]:
    """Of each quantity, the column and the factor to µS or s, below 0 for a resistance; and what is to be said."""
    ignored: list[str] = []
    inverted: list[str] = []
    found: dict[str, tuple[int, float]] = {}
    wanted = ("cell", *(f"{quantity}_{unit}" for quantity, (unit, _) in _UNITS.items()), "reading")
    if len(header) == 1 and (other := re.search(r"[;\t]", header[0])):
        what = "tabs" if other[0] == "\t" else f"'{other[0]}'"
        raise UserError(f"fields of '{path}' are separated by {what}; they must be by commas (and numbers use points).")
    for place, name in enumerate(header):
        quantity, unit = _plain(name)
        if name.lower() in ("cell", "reading", "die"):
            quantity, factor = name.lower(), 1.0
        elif unit in _OHMS and quantity in ("target", "target_resistance", "conductance", "resistance"):
            quantity, factor = "target" if quantity.startswith("target") else "conductance", -_OHMS[unit]
            inverted.append(name)
        elif quantity in _UNITS and unit in _UNITS[quantity][1]:
            factor = _UNITS[quantity][1][unit]
        elif name.lower() in _UNITS or quantity in _UNITS:
            quantity = quantity if quantity in _UNITS else name.lower()
            usual, units = _UNITS[quantity]
            raise UserError(
                f"column '{name}' of '{path}' does not say a known unit: call it {quantity}_{usual} "
                f"(or {', '.join(f'{quantity}_{unit}' for unit in units if unit != usual)})."
            )
        else:
            ignored.append(name)
            continue
        if quantity in found:
            raise UserError(f"'{path}' has two columns of {quantity}: '{header[found[quantity][0]]}' and '{name}'.")
        found[quantity] = (place, factor)
    missing = [name for name in wanted[:-1] if name.rpartition("_")[0] not in found and name not in found]
    if missing:
        raise UserError(
            f"'{path}' lacks the column {', '.join(missing)}; it has: {', '.join(header) or 'none'}. "
            f"{nearest(ignored[0], wanted) if ignored and ignored[0] else ''}".rstrip()
        )
    said = [f"Columns that were passed by: {', '.join(named)}." for named in [[n for n in ignored if n]] if named]
    said += [f"Resistances that were inverted: {', '.join(inverted)}."] * bool(inverted)
    # Without repeats every reading is the first.
    return {"reading": (found["cell"][0], 0.0), **found}, tuple(said)


def _value(path: Path, line: int, quantity: str, text: str, factor: float) -> float:
    if quantity == "reading" and not factor:
        return 0.0
    try:
        value = float(text) * factor if factor >= 0 else 1 / (float(text) * -factor)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"'{path}' line {line}: {quantity} '{text}' is not a number.")
    if quantity == "conductance" and value <= 0:
        raise UserError(
            f"'{path}' line {line}: conductance '{text}' must be above 0; a reading below what the instrument resolves "
            "is given as the lowest that it does."
        )
    if value < 0:
        hint = "; 0 is just written" if quantity == "time" else ""
        raise UserError(f"'{path}' line {line}: {quantity} '{text}' must not be below 0{hint}.")
    return value


def _sorted(
    path: Path,
    cells: np.ndarray,
    cell: np.ndarray,
    target: np.ndarray,
    time: np.ndarray,
    conductance: np.ndarray,
    reading: np.ndarray,
    lines: np.ndarray,
    left_out: int,
    said: tuple[str, ...],
) -> Readings:
    order = np.lexsort((reading, time, cell))
    cell, target, time, conductance, reading, lines = (
        column[order] for column in (cell, target, time, conductance, reading, lines)
    )
    same_cell = cell[1:] == cell[:-1]
    same_visit = same_cell & (time[1:] == time[:-1])
    twice = np.flatnonzero(same_visit & (reading[1:] == reading[:-1]))
    if len(twice):
        first, second = sorted((lines[twice[0]], lines[twice[0] + 1]))
        raise UserError(
            f"'{path}' has a reading twice, in lines {first} and {second}: cell {cells[cell[twice[0]]]} at "
            f"{time[twice[0]]:g} s. A column 'reading' tells repeats at one time apart."
        )
    moved = np.flatnonzero(same_cell & (target[1:] != target[:-1]))
    if len(moved):
        one = moved[0]
        raise UserError(
            f"'{path}' line {max(lines[one], lines[one + 1])}: cell {cells[cell[one]]} has the targets {target[one]:g} "
            f"and {target[one + 1]:g} µS; each writing of a cell needs a name of its own."
        )
    _refuse_mixed_units(path, cell, target, conductance, lines)
    visit = np.concatenate([[0], np.cumsum(~same_visit)])
    return Readings(tuple(map(str, cells)), cell, target, time, conductance, visit, left_out, said)


def _refuse_mixed_units(
    path: Path, cell: np.ndarray, target: np.ndarray, conductance: np.ndarray, lines: np.ndarray
) -> None:
    """Raises for rows a thousand or a million times off their target: µS among nS, among mS, or among S.

    What lies within the range of the targets a cell can read: with an on/off ratio near 1,000 one that is stuck on, or
    has lost its filament, does. Beyond it, a high one is no cell's doing; a low one may be a cell that hardly conducts,
    or the least that the instrument reads: neither follows the target.
    """
    states = np.unique(target[target > 0])
    jumps = np.flatnonzero(states[1:] > 100 * states[:-1])
    if len(jumps) and 1 < jumps[0] + 1 < len(states) - 1:  # a single idle state far below the others is usual
        low = target <= states[jumps[0]]
        few = low if low.sum() <= len(low) / 2 else ~low
        raise UserError(
            f"'{path}' seems to mix units: targets from {states[jumps[0] + 1]:g} and up to {states[jumps[0]]:g} µS; "
            f"see {named('line', np.sort(lines[few & (target > 0)]).tolist())}."
        )
    ratio = np.divide(conductance, target, out=np.ones_like(target), where=target > 0)
    high, low = (
        np.any([np.abs(np.log(ratio / factor)) < math.log(_NEAR) for factor in factors], axis=0)
        for factors in ((1e3, 1e6), (1e-3, 1e-6))
    )
    if len(states):
        usual = (conductance > states[0] / _NEAR) & (conductance < states[-1] * _NEAR)
        high, low = high & ~usual, low & ~usual
    if len(np.unique(conductance[low])) < 2:  # as of the least that the instrument reads
        low[:] = False
    best = np.zeros(cell.max() + 1)
    np.maximum.at(best, cell, ratio)
    if low.any() and target[low].max() < 2 * target[low].min():  # as of one leakage current
        low &= best[cell] > 0.5
    if (high | low).any():
        one = np.flatnonzero(high | low)[0]
        raise UserError(
            f"'{path}' seems to mix units: a cell with target {target[one]:g} µS reads {conductance[one]:g} µS; "
            f"see {named('line', np.sort(lines[high | low]).tolist())}."
        )


def named(noun: str, every: Sequence[object]) -> str:
    """The first few of them, and how many more there are: ``cells a, b and 3 more``."""
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return f"{noun}{'s' * (len(every) > 1)} {', '.join(map(str, every[:_NAMED]))}{more}"
