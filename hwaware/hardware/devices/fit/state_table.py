"""A table of states as in papers, ``state,mean_us,std_us,age_s``, converted to equivalent readings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from hwaware.errors import UserError
from hwaware.hardware.devices.fit.lab_csv import OHMS, SECONDS, SIEMENS, LabCsv, as_word, named, quantity_and_unit
from hwaware.hardware.devices.fit.readings import PROGRAMMING_ERROR, Readings
from hwaware.system.reading import seconds

#: Cells for each row of a table without counts, and the maximum: more would only take longer.
CELLS, MOST_CELLS = 100, 400

#: Smallest reading (µS), since a Gaussian with the table's moments may be negative.
_FLOOR_US = 1e-3

_MEANS = ("mean", "mean_conductance", "conductance_mean", "average", "avg", "mean_g", "g_mean")
_STDS = (
    *("std", "sd", "sigma", "σ", "stdev", "std_dev", "std_conductance", "conductance_std", "std_g", "g_std"),
    "standard_deviation",
)
_STATES = ("state", "target", "level")
_AGES = ("age", "time", "t", "delay")
_COUNTS = ("cells", "n", "n_cells", "count")
#: Quantities that a header may name.
QUANTITIES = (*_MEANS, *_STDS, *_STATES, *_AGES, *_COUNTS)


@dataclass(frozen=True)
class _Row:
    """A row of the table: moments of a state at an age, and the number of cells; 0: not stated."""

    line: int
    state: str
    target_us: float | None
    age_s: float
    mean_us: float
    std_us: float
    cells: int


def is_state_table(table: LabCsv) -> bool:
    """Whether a table has means and standard deviations."""
    names = {one for name in table.header for one in (quantity_and_unit(name)[0], as_word(name))}
    return bool(names & set(_MEANS)) and bool(names & set(_STDS))


def read_state_table(table: LabCsv) -> Readings:
    """Readings with exactly the moments of the table: Gaussian quantiles of cells that keep their rank at all ages.

    Columns: a state, by its target with a unit (``target_us``, ``state (µS)``) or by any name (its target is then the
    mean at its first age); ``mean_us`` and ``std_us`` with units; the age (``age_s``, or ``age`` in words: ``1 day``);
    and the number of cells (``n``). Without ages, all rows are at age 0. Without the age 0, the programming error is
    assumed to have the spread of the first age.

    Raises:
        UserError: a column is missing, duplicated or has no known unit; a value is invalid; or a state is there twice
            at one age.
    """
    columns, passed = _columns(table)
    rows = [_row(table, columns, line, fields) for line, fields in table.rows()]
    if not rows:
        raise UserError(f"'{table.path}' has no states.")
    _refuse_twice(table, rows)
    targets_us = _targets_us(rows)
    assumed, notes = _assumed(rows), _notes(rows, "age" in columns)
    if PROGRAMMING_ERROR in assumed:
        rows += [
            _Row(row.line, row.state, None, 0.0, targets_us[row.state], row.std_us, row.cells)
            for row in rows
            if row.age_s == min(one.age_s for one in rows if one.state == row.state)
        ]
    rows.sort(key=lambda row: (targets_us[row.state], row.state, row.age_s))
    cells = {row.state: max(one.cells or CELLS for one in rows if one.state == row.state) for row in rows}
    offset = dict(zip(cells, np.cumsum([0, *cells.values()]), strict=False))
    parts = []
    for row in rows:
        values = np.maximum(row.mean_us + row.std_us * _scores(row.cells or CELLS), _FLOOR_US)
        cell = offset[row.state] + np.arange(len(values))
        parts.append((cell, *(np.full(len(values), one) for one in (targets_us[row.state], row.age_s)), values))
    cell, target_us, time_s, conductance_us = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((time_s, cell))
    names = tuple(f"{state}/{place}" for state, count in cells.items() for place in range(count))
    notes += [f"Columns that were ignored: {', '.join(passed)}."] * bool(passed)
    return Readings(
        names,
        cell[order],
        target_us[order],
        time_s[order],
        conductance_us[order],
        np.arange(len(order)),
        notes=tuple(notes),
        n_states=len(table.body),
        assumed=assumed,
    )


def _columns(table: LabCsv) -> tuple[dict[str, tuple[int, float]], list[str]]:
    """Column and factor of ``state``, ``target``, ``mean``, ``std``, ``age`` and ``cells``; and the other columns.

    The factor is NaN if a column has no unit.
    """
    found: dict[str, tuple[int, float]] = {}
    passed, wrong = [], []
    for place, name in enumerate(table.header):
        quantity, unit = quantity_and_unit(name)
        quantity = as_word(name) if as_word(name) in QUANTITIES else quantity
        unit = "" if as_word(name) in QUANTITIES else unit
        kinds = {"mean": _MEANS, "std": _STDS, "state": _STATES, "age": _AGES, "cells": _COUNTS}
        kind = next((kind for kind, names in kinds.items() if quantity in names), None)
        if kind is None:
            passed += [name] * bool(name)
            continue
        factor = {"age": SECONDS, "cells": {}}.get(kind, SIEMENS).get(unit, math.nan)
        if unit in OHMS:
            raise UserError(
                f"column '{name}' of '{table.path}' is a resistance: means and spreads of resistances are not those of "
                "conductances. Give the readings, or the table in µS."
            )
        if kind in ("mean", "std") and math.isnan(factor):
            wrong.append(f"column '{name}' does not say a known unit: call it {kind}_us (or {kind}_ns, {kind}_ms)")
        kind = "target" if kind == "state" and not math.isnan(factor) else kind
        if kind in found:
            first = table.header[found[kind][0]]
            raise UserError(f"'{table.path}' has two columns of {kind}: '{first}' and '{name}'.")
        found[kind] = (place, factor)
    if not found.keys() & {"state", "target"}:
        wrong.append(f"it lacks the column state (or target_us); it has: {', '.join(table.header)}")
    if wrong:
        raise UserError(f"'{table.path}': {'; '.join(wrong)}.")
    return found, passed


def _row(table: LabCsv, columns: dict[str, tuple[int, float]], line: int, fields: Sequence[str]) -> _Row:
    where = f"'{table.path}' line {line}"

    def number(kind: str) -> float:
        place, factor = columns[kind]
        try:
            value = float(fields[place]) * factor
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0 or (value == 0 and kind == "mean"):
            least = "above 0" if kind == "mean" else "0 or more"
            raise UserError(f"{where}: {kind} '{fields[place]}' must be a number, {least}.")
        return value

    age_s = 0.0
    if "age" in columns:
        place, factor = columns["age"]
        if math.isnan(factor):
            try:
                age_s = seconds(fields[place])
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        else:
            age_s = number("age")
        if not 0 <= age_s < math.inf:
            raise UserError(f"{where}: age '{fields[place]}' must not be below 0; 0 is just written.")
    cells = 0
    if "cells" in columns and (text := fields[columns["cells"][0]]):
        if not text.isdecimal() or int(text) < 2:
            raise UserError(
                f"{where}: {table.header[columns['cells'][0]]} '{text}' must be a count of cells, 2 or more."
            )
        cells = min(int(text), MOST_CELLS)
    target_us = number("target") if "target" in columns else None
    state = fields[columns["state" if "state" in columns else "target"][0]]
    return _Row(line, state, target_us, age_s, number("mean"), number("std"), cells)


def _refuse_twice(table: LabCsv, rows: Sequence[_Row]) -> None:
    lines: dict[tuple[str, float], int] = {}
    targets: dict[str, _Row] = {}
    for row in rows:
        if (first := lines.setdefault((row.state, row.age_s), row.line)) != row.line:
            raise UserError(
                f"'{table.path}' has a duplicate state in lines {first} and {row.line}: {row.state} at {row.age_s:g} s."
            )
        if (other := targets.setdefault(row.state, row)).target_us != row.target_us:
            raise UserError(
                f"'{table.path}' line {row.line}: state {row.state} has the targets {other.target_us:g} and "
                f"{row.target_us:g} µS."
            )


def _targets_us(rows: Sequence[_Row]) -> dict[str, float]:
    """The target (µS) of each state, or the mean at its first age."""
    first: dict[str, _Row] = {}
    for row in rows:
        first[row.state] = min(first.get(row.state, row), row, key=lambda one: one.age_s)
    return {state: row.mean_us if row.target_us is None else row.target_us for state, row in first.items()}


def _assumed(rows: Sequence[_Row]) -> tuple[str, ...]:
    """Properties of a device that a table of states does not contain, for any law."""
    programming = (PROGRAMMING_ERROR,) * (min(row.age_s for row in rows) > 0)
    targets = ("target_us",) * any(row.target_us is None for row in rows)
    return (*programming, *targets, "clamp", "stuck_on", "stuck_off")


def _notes(rows: Sequence[_Row], has_ages: bool) -> list[str]:
    """How rows count, in sentences."""
    found = ["Each row counts as Gaussian readings with its moments, of cells that keep their rank at all ages."]
    if not has_ages:
        found.append("Without a column of ages, all rows count as just written.")
    ages = {row.age_s for row in rows}
    few = [row.state for row in rows if len({one.age_s for one in rows if one.state == row.state}) < len(ages)]
    if states := list(dict.fromkeys(few)):
        found.append(f"Ages are missing for {named('state', states)}: the law of the others is used there.")
    if not all(row.cells for row in rows):
        found.append(f"{CELLS} cells are assumed for each row without a count, which sets the width of intervals.")
    if any(row.cells == MOST_CELLS for row in rows):
        found.append(f"At most {MOST_CELLS} cells are assumed for each row: intervals are not narrower than that.")
    return found


def _scores(n: int) -> np.ndarray:
    """Quantiles of a standard Gaussian, with mean 0 and standard deviation exactly 1."""
    scores = ndtri((np.arange(n) + 0.5) / n)
    return scores / scores.std()
