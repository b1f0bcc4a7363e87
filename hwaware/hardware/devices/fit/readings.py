"""The CSV file of repeated conductance readings.

Its columns are ``cell,target_us,time_s,conductance_us`` and optionally ``reading`` (for repeats) and ``die``.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwaware.errors import UserError
from hwaware.hardware.devices.fit.lab_csv import (
    OHMS,
    SECONDS,
    SIEMENS,
    LabCsv,
    as_word,
    named,
    quantity_and_unit,
)
from hwaware.hardware.devices.fit.stamps import STAMPS, STARTS, ages_s, is_stamp, stamp, stated_start

_UNITS = {"target": ("us", SIEMENS), "time": ("s", SECONDS), "conductance": ("us", SIEMENS)}

#: Other usual names of columns, if no column has the quantity's own.
_ALSO = {
    "cell": ("cell_id", "cell_no", "cell_index", "cell_number", "device", "device_id", "dut", "sample", "sample_id"),
    "target": ("target_g", "g_target", "target_conductance", "g_set", "setpoint", "target_r", "r_target"),
    "time": ("t", "age", "delay", "elapsed", "elapsed_time", "time_elapsed", "retention_time"),
    "conductance": ("g", "cond", "g_read", "g_meas", "g_measured", "measured_conductance", "read_conductance"),
    "resistance": ("r", "res", "r_read", "r_meas", "r_measured", "measured_resistance", "read_resistance"),
    "reading": ("repeat", "read_no", "read_number"),
}
_CALLED = {also: quantity for quantity, names in _ALSO.items() for also in names}

#: Quantities that a header may name.
QUANTITIES = ("cell", "target", "time", "conductance", "resistance", *STAMPS, *_CALLED)

#: The assumption if no cell was read just after writing.
PROGRAMMING_ERROR = "programming_error"

#: Tolerance within which a reading of a thousandth, a thousand times (a millionth, …) its target suggests another unit.
_NEAR = 1.3


@dataclass(frozen=True)
class Readings:
    """Conductance readings, one element per row with a reading, sorted by cell, time and reading.

    Attributes:
        cells: names of the cells; with several dies, ``DIE/CELL``.
        cell: index into ``cells``.
        target_us, time_s, conductance_us: target (µS), age (s; 0: just written) and measured conductance (µS).
        visit: index that the readings of a cell at one age share; numbered from 0.
        left_out: number of rows without a time or a conductance.
        notes: further notes on the file, in sentences.
        dies: names of the dies; empty if the file names none.
        die: index into ``dies`` for each cell.
        n_states: number of rows of the table of states that the readings were made from; 0: they were measured.
        assumed: properties that such a table lacks, in the form of a device's ``assumed``.
    """

    cells: tuple[str, ...]
    cell: np.ndarray
    target_us: np.ndarray
    time_s: np.ndarray
    conductance_us: np.ndarray
    visit: np.ndarray
    left_out: int = 0
    notes: tuple[str, ...] = ()
    dies: tuple[str, ...] = ()
    die: np.ndarray | None = None
    n_states: int = 0
    assumed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def n_cells(self) -> int:
        """Number of cells with a reading."""
        return len(np.unique(self.cell))

    @property
    def described(self) -> str:
        """Number of cells, or of states and ages, in words."""
        return f"{self.n_states} states and ages" if self.n_states else f"{self.n_cells} cells"

    @property
    def new_is_assumed(self) -> bool:
        """Whether the readings at age 0 are assumed, not measured."""
        return PROGRAMMING_ERROR in self.assumed

    @property
    def window_us(self) -> tuple[float, float]:
        """The lowest and the highest target (µS)."""
        return float(self.target_us.min()), float(self.target_us.max())

    @property
    def ages_s(self) -> np.ndarray:
        """Distinct ages (s) above 0, ascending."""
        return np.unique(self.time_s[self.time_s > 0])

    def take(self, kept: np.ndarray) -> Readings:
        """The readings where ``kept`` is true; cells keep their numbers."""
        visit = np.unique(self.visit[kept], return_inverse=True)[1]
        columns = ("cell", "target_us", "time_s", "conductance_us")
        return replace(self, **{name: getattr(self, name)[kept] for name in columns}, visit=visit)


def read_readings(table: LabCsv, start: str | None = None) -> Readings:
    """Reads readings from a CSV file, in any order.

    Column names include units, in any case and with or without brackets; other usual names are accepted
    (``G (µS)``). Units other than µS and s are converted (``conductance_ns``, ``Time [h]``), and resistances inverted
    (``resistance_kohm``). Ages may be dates and times of ISO 8601 (``timestamp``), which count from the start. A column
    ``die`` names the die of each cell; cells of different dies may have the same name. Other columns, and lines before
    the header, are ignored. A row with an empty time or conductance is a reading that was not taken.

    Args:
        table: the file.
        start: when all cells were written, if ages are dates and times. None: from a column (``written_at``), otherwise
            from a line before the header, otherwise the first time of each cell.

    Raises:
        UserError: a column is missing or has no known unit, a value is not a number or out of range, a cell has two
            targets, a reading is duplicated, or some rows seem to have another unit.
    """
    path = table.path
    columns, notes = _columns(table)
    names, lines, values, left_out = [], [], [], 0
    die_of_cell: dict[str, str] = {}
    ages, counted = _ages(table, columns, start)
    for (line, row), age_s in zip(table.rows(), ages, strict=True):
        fields = {quantity: row[place] for quantity, (place, _) in columns.items()}
        if age_s is None or not fields["conductance"]:
            left_out += 1
            continue
        if not fields.get("die", "-"):
            raise UserError(f"'{path}' line {line}: the die is empty; name one in each row, or leave the column out.")
        names.append(_cell(row, columns))
        die_of_cell[names[-1]] = fields.get("die", "")
        lines.append(line)
        target, conductance, reading = (
            _value(path, line, name, fields[name], columns[name][1]) for name in ("target", "conductance", "reading")
        )
        values.append([target, age_s, conductance, reading])
    if not names:
        raise UserError(f"'{path}' has no reading.")
    target, time, conductance, reading = np.array(values, dtype=float).T
    cells, cell = np.unique(np.array(names), return_inverse=True)
    notes += counted
    found = _sorted(path, cells, cell, target, time, conductance, reading, np.array(lines), left_out, notes)
    if "die" not in columns:
        return found
    dies, die = np.unique([die_of_cell[one] for one in found.cells], return_inverse=True)
    return replace(found, dies=tuple(map(str, dies)), die=die)


def _cell(row: Sequence[str], columns: Mapping[str, tuple[int, float]]) -> str:
    """The name of a row's cell, among all dies."""
    return "/".join(row[columns[name][0]] for name in ("die", "cell") if name in columns)


def _ages(
    table: LabCsv, columns: dict[str, tuple[int, float]], start: str | None
) -> tuple[list[float | None], tuple[str, ...]]:
    """The age (s) of each row, None if it has none; and notes on the start of ages."""
    path, (place, factor) = table.path, columns["time"]
    if not math.isnan(factor):
        if start is not None:
            raise UserError(f"start '{start}' is for dates and times; '{table.header[place]}' of '{path}' has ages.")
        return [
            _value(path, line, "time", row[place], factor) if row[place] else None for line, row in table.rows()
        ], ()
    taken = [(number, line, row) for number, (line, row) in enumerate(table.rows()) if row[place]]
    lines, cells = [line for _, line, _ in taken], [_cell(row, columns) for _, _, row in taken]
    stamps = [stamp(row[place], f"'{path}' line {line}: {table.header[place]}") for _, line, row in taken]
    begun = next((at for at, name in enumerate(table.header) if as_word(name) in STARTS), None)
    stated = start if start is not None else stated_start(table.before)
    if start is None and begun is not None:
        starts = [stamp(row[begun], f"'{path}' line {line}: {table.header[begun]}") for _, line, row in taken]
        found, origin = ages_s(path, lines, cells, stamps, starts), f"the column '{table.header[begun]}'"
    elif stated is not None:
        found, origin = ages_s(path, lines, cells, stamps, stamp(stated, "start")), stated
    else:
        found, origin = (
            ages_s(path, lines, cells, stamps, None),
            "each cell's first time, when it counts as just written",
        )
    ages: list[float | None] = [None] * len(table.body)
    for (number, _, _), age_s in zip(taken, found, strict=True):
        ages[number] = age_s
    return ages, (f"Ages count from {origin}.",)


def _columns(table: LabCsv) -> tuple[dict[str, tuple[int, float]], tuple[str, ...]]:
    """For each quantity, the column and the factor to µS or s, negative for a resistance; and notes.

    Dates and times have the factor NaN.
    """
    path, header = table.path, table.header
    ignored: list[str] = []
    inverted: list[str] = []
    wrong: list[str] = []
    found: dict[str, tuple[int, float]] = {}
    unknown: set[str] = set()
    usual = _named_as_usual(header)
    names = {quantity for quantity, _ in usual}
    for place, (name, (quantity, unit)) in enumerate(zip(header, usual, strict=True)):
        if quantity in ("cell", "reading", "die") and not unit:
            factor = 1.0
        elif unit in OHMS and quantity in ("target", "target_resistance", "conductance", "resistance"):
            quantity, factor = "target" if quantity.startswith("target") else "conductance", -OHMS[unit]
            inverted.append(name)
        elif quantity in _UNITS and unit in _UNITS[quantity][1]:
            factor = _UNITS[quantity][1][unit]
        elif _is_stamped(table, place, quantity):
            quantity, factor = "time", math.nan
        elif quantity in _UNITS or (quantity == "resistance" and "conductance" not in names):
            first, units = _UNITS.get(quantity, ("ohm", dict.fromkeys(("ohm", "kohm", "Mohm"), 1.0)))
            others = ", ".join(f"{quantity}_{unit}" for unit in units if unit != first)
            wrong.append(f"column '{name}' does not say a known unit: call it {quantity}_{first} (or {others})")
            unknown.add("conductance" if quantity == "resistance" else quantity)
            continue
        else:
            ignored.append(name)
            continue
        if quantity in found:
            raise UserError(f"'{path}' has two columns of {quantity}: '{header[found[quantity][0]]}' and '{name}'.")
        found[quantity] = (place, factor)
    missing = [one for one in ("cell", *_UNITS) if one not in found and one not in unknown]
    if missing:
        called = {one: f"{one}_{_UNITS[one][0]}" if one in _UNITS else one for one in missing}
        wrong.append(f"it lacks the column {', '.join(called.values())}; it has: {', '.join(header) or 'none'}")
        meant = ((_alike(one, ignored), name) for one, name in called.items())
        wrong += [f"is '{other}' meant? Call it {_with_unit(name, other)}" for other, name in meant if other]
    if wrong:
        raise UserError(f"'{path}': {'; '.join(wrong)}.")
    starts = STARTS if math.isnan(found["time"][1]) else ()
    passed = [name for name in ignored if name and as_word(name) not in starts]
    notes = [f"Columns that were ignored: {', '.join(passed)}."] * bool(passed)
    notes += [f"Resistances that were inverted: {', '.join(inverted)}."] * bool(inverted)
    # Without repeats, every reading is the first.
    return {"reading": (found["cell"][0], 0.0), **found}, tuple(notes)


def _named_as_usual(header: Sequence[str]) -> list[tuple[str, str]]:
    """Of each column the quantity and its unit: by another usual name, where no column has the quantity's own."""
    found = []
    for name in header:
        quantity, unit = quantity_and_unit(name)
        if as_word(name) in (*_UNITS, *_CALLED, "cell", "reading", "die", "resistance"):  # device_id: id is no unit
            quantity, unit = as_word(name), ""
        found.append((quantity, unit))
    own = {quantity for quantity, _ in found}
    own |= {"conductance", "resistance"} if own & {"conductance", "resistance"} else set()
    stamped = bool(own & {*STAMPS})  # beside dates and times, what has no unit is no age

    def usual(name: str, unit: str) -> str:
        quantity = _CALLED.get(name, name)
        return name if quantity in own or (quantity == "time" and stamped and unit not in SECONDS) else quantity

    return [(usual(name, unit), unit) for name, unit in found]


def _with_unit(name: str, other: str) -> str:
    """The name that a column should have, in the unit that it states: one in kΩ is not a conductance in µS."""
    _, unit = quantity_and_unit(other)
    if name == f"conductance_{_UNITS['conductance'][0]}" and unit in OHMS:
        return f"resistance_{unit}"
    quantity, _, _ = name.rpartition("_")
    return f"{quantity}_{unit}" if quantity in _UNITS and unit in _UNITS[quantity][1] else name


def _alike(quantity: str, names: Sequence[str]) -> str | None:
    """The one of some columns that is called most like a quantity."""
    words = {quantity_and_unit(name)[0]: name for name in names if name}
    close = (difflib.get_close_matches(one, words, n=1) for one in (quantity, *_ALSO[quantity]))
    return next((words[hits[0]] for hits in close if hits), None)


def _is_stamped(table: LabCsv, place: int, quantity: str) -> bool:
    """Whether a column has dates and times: by its name, or ``time`` without a unit."""
    if as_word(table.header[place]) in STAMPS or quantity in STAMPS:
        # If there is also an age in a known unit, that is the time.
        return not any(name == "time" and unit in SECONDS for name, unit in _named_as_usual(table.header))
    texts = (row[place] for _, row in table.body if place < len(row) and row[place])
    return quantity == "time" and is_stamp(next(texts, ""))


def _value(path: Path, line: int, quantity: str, text: str, factor: float) -> float:
    if quantity == "reading" and not factor:
        return 0.0
    try:
        value = float(text) * factor if factor >= 0 else 1 / (float(text) * -factor)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        reason = "has a decimal comma; numbers use points" if re.fullmatch(r"-?\d+,\d+", text) else "is not a number"
        raise UserError(f"'{path}' line {line}: {quantity} '{text}' {reason}.")
    if quantity == "conductance" and value <= 0:
        raise UserError(
            f"'{path}' line {line}: conductance '{text}' must be above 0; give a reading below the resolution of the "
            "instrument as the lowest value that it resolves."
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
    notes: tuple[str, ...],
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
            f"'{path}' has a duplicate reading in lines {first} and {second}: cell {cells[cell[twice[0]]]} at "
            f"{time[twice[0]]:g} s. Use a column 'reading' for repeats at one time."
        )
    moved = np.flatnonzero(same_cell & (target[1:] != target[:-1]))
    if len(moved):
        one = moved[0]
        raise UserError(
            f"'{path}' line {max(lines[one], lines[one + 1])}: cell {cells[cell[one]]} has the targets {target[one]:g} "
            f"and {target[one + 1]:g} µS; each writing of a cell needs its own name."
        )
    _refuse_mixed_units(path, cell, target, conductance, lines)
    visit = np.concatenate([[0], np.cumsum(~same_visit)])
    return Readings(tuple(map(str, cells)), cell, target, time, conductance, visit, left_out, notes)


def _refuse_mixed_units(
    path: Path, cell: np.ndarray, target: np.ndarray, conductance: np.ndarray, lines: np.ndarray
) -> None:
    """Raises UserError for rows a thousand or a million times off their target: µS among nS, mS or S.

    A reading within the range of the targets is accepted: with an on/off ratio near 1,000, a cell that is stuck on or
    has lost its filament reads so. Beyond that range, no cell reads so high. A low reading may be a cell that hardly
    conducts or the resolution of the instrument; neither follows the target.
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
    if len(np.unique(conductance[low])) < 2:  # like the resolution of the instrument
        low[:] = False
    best = np.zeros(cell.max() + 1)
    np.maximum.at(best, cell, ratio)
    if low.any() and target[low].max() < 2 * target[low].min():  # like one leakage current
        low &= best[cell] > 0.5
    if (high | low).any():
        one = np.flatnonzero(high | low)[0]
        raise UserError(
            f"'{path}' seems to mix units: a cell with target {target[one]:g} µS reads {conductance[one]:g} µS; "
            f"see {named('line', np.sort(lines[high | low]).tolist())}."
        )
