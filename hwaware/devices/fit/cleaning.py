"""What is set aside before a law is fitted: stuck cells and outliers; and the limits at which readings are cut off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwaware.devices.fit.readings import Readings

#: A cell is stuck at an end of the window if all its readings are within this share of the window of it (or beyond),
#: while its target is in the other half.
STUCK_WITHIN = 0.05

#: An outlier lies so many interquartile ranges beyond the quartiles (Tukey's fences); of a Gaussian that is 6 σ.
OUTLIER_IQR = 4.0

#: Readings of a state that are too few to tell an outlier by.
_FEW = 8

#: Cells that must share the lowest (highest) reading before it counts as a limit.
_AT_LIMIT = 3

_STATES, _AGES = 16, 60


@dataclass(frozen=True)
class Cleaned:
    """What the laws are fitted to, and what was set aside.

    Attributes:
        readings: without stuck cells and outliers.
        stuck_on, stuck_off: stuck cells, and the cells that could have shown it.
        outliers: readings set aside.
        dead: cells of which most readings were outliers; all of theirs are set aside, and counted above.
        limits_us: lowest and highest reading where several cells share it, as a clamp or an instrument makes them.
        clamp: what a cell can hold (see :class:`~hwaware.devices.Device`).
    """

    readings: Readings
    stuck_on: tuple[int, int]
    stuck_off: tuple[int, int]
    outliers: int
    dead: tuple[str, ...]
    limits_us: tuple[float | None, float | None]
    clamp: str


def clean(readings: Readings) -> Cleaned:
    """Sets stuck cells and outliers aside."""
    low_us, high_us = readings.window_us
    width = high_us - low_us
    lowest, highest = _extremes(readings)
    target = np.zeros(len(readings.cells))
    target[readings.cell] = readings.target_us
    seen = np.isin(np.arange(len(target)), readings.cell)
    wants_low, wants_high = seen & (target < low_us + width / 2), seen & (target > low_us + width / 2)
    on = wants_low & (lowest >= high_us - STUCK_WITHIN * width)
    off = wants_high & (highest <= low_us + STUCK_WITHIN * width)
    kept = readings.take(~(on | off)[readings.cell])
    outlier = outliers(kept)
    share = np.bincount(kept.cell, outlier, minlength=len(target)) / np.maximum(
        np.bincount(kept.cell, minlength=len(target)), 1
    )
    dead = share > 0.5
    outlier |= dead[kept.cell]
    kept = kept.take(~outlier)
    limits = _limits(kept)
    ends = [
        limit is not None and abs(limit - end) <= 1e-3 * width
        for limit, end in zip(limits, (low_us, high_us), strict=True)
    ]
    inside = kept.conductance_us.min() >= low_us - 1e-3 * width and kept.conductance_us.max() <= high_us + 1e-3 * width
    return Cleaned(
        kept,
        (int(on.sum()), int(wants_low.sum())),
        (int(off.sum()), int(wants_high.sum())),
        int(outlier.sum()),
        tuple(np.array(readings.cells)[dead].tolist()),
        limits,
        "window" if inside and any(ends) else "zero",
    )


def bins(values: np.ndarray, most: int, log: bool = False) -> np.ndarray:
    """An index per value: distinct values have their own where they are at most so many, else they share evenly."""
    distinct, index = np.unique(values, return_inverse=True)
    if len(distinct) <= most:
        return index
    distinct = np.log(distinct) if log else distinct
    share = (distinct - distinct[0]) / (distinct[-1] - distinct[0])
    return np.unique(np.minimum((share * most).astype(int), most - 1)[index], return_inverse=True)[1]


def states(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    """For each reading the index of its target's bin and of its age's; age 0 is the first, where there is one."""
    age = np.zeros(len(readings), dtype=int)
    older = readings.time_s > 0
    if older.any():
        age[older] = bins(readings.time_s[older], _AGES, log=True) + 1
    return bins(readings.target_us, _STATES), np.unique(age, return_inverse=True)[1]


def outliers(readings: Readings) -> np.ndarray:
    """Which readings lie far from their state's others, both as conductances and as logarithms of them.

    Both, so that neither a lognormal's long tail nor a cell near 0 µS passes for an error. Where many readings are cut
    off at one value, the range of the other states of that age serves, halved.
    """
    target, age = states(readings)
    state = target * (age.max() + 1) + age
    far = np.ones(len(readings), dtype=bool)
    shift = readings.conductance_us - readings.target_us
    ratio = np.log(readings.conductance_us) - np.log(np.maximum(readings.target_us, 1e-9))
    for values in (shift, ratio):
        beyond, scale = np.zeros(len(values)), np.full(len(values), np.inf)
        for one in np.unique(state):
            members = np.flatnonzero(state == one)
            low, high = np.quantile(values[members], (0.25, 0.75))
            beyond[members] = np.maximum(values[members] - high, low - values[members])
            if len(members) >= _FEW:
                scale[members] = high - low
        for one in np.unique(age):
            members = np.flatnonzero(age == one)
            positive = scale[members][(scale[members] > 0) & np.isfinite(scale[members])]
            scale[members] = np.maximum(scale[members], np.median(positive) / 2 if len(positive) else np.inf)
        far &= beyond > OUTLIER_IQR * scale
    return far


def _extremes(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    lowest, highest = np.full(len(readings.cells), np.inf), np.full(len(readings.cells), -np.inf)
    np.minimum.at(lowest, readings.cell, readings.conductance_us)
    np.maximum.at(highest, readings.cell, readings.conductance_us)
    return lowest, highest


def _limits(readings: Readings) -> tuple[float | None, float | None]:
    found = []
    for end in (readings.conductance_us.min(), readings.conductance_us.max()):
        cells = len(np.unique(readings.cell[readings.conductance_us == end]))
        found.append(float(end) if cells >= _AT_LIMIT else None)
    return found[0], found[1]
