"""Cleaning of readings before a law is fitted: stuck cells, outliers, and the limits at which readings are censored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from hwaware.errors import UserError
from hwaware.hardware.devices.fit.readings import Readings

#: A cell is stuck at an end of the window if all its readings, including age 0, are beyond that end or within this
#: fraction of the window from it, while its target is in the other half.
STUCK_WITHIN = 0.05

#: An outlier lies this many interquartile ranges beyond the quartiles (Tukey's fences); 6 σ for a Gaussian.
OUTLIER_IQR = 4.0

#: Fewest readings of a state for detecting outliers.
_FEW = 8

#: Fewest cells that share a reading for it to count as a limit, and largest ratio of readings beyond it to readings at
#: it.
_AT_LIMIT, _BEYOND_LIMIT = 3, 0.2

#: Fraction of the readings at one age up to which outliers are rare.
RARE = 0.005

#: Most distinct targets and ages. If there are more, neighbours are grouped: targets by sixteenths of the range, ages
#: by sixtieths of the logarithmic range.
MOST_STATES, MOST_AGES = 16, 60


@dataclass(frozen=True)
class Cleaned:
    """The readings for fitting laws, and the readings that were excluded.

    Attributes:
        readings: readings without stuck cells and excluded readings.
        stuck_on, stuck_off: number of stuck cells, and of cells that could have shown it.
        aside: excluded readings: outliers that do not show the cell's state, and readings of dead cells.
        departed: outliers that do show it, since the cell stays there. They are part of ``readings``.
        dead: cells that were outliers just after writing and in most of their readings.
        limits_us: lowest and highest value (µS) at which readings are censored by a clamp or an instrument: several
            cells share it, and hardly any reading is beyond it. None: no limit.
        clamp: the range that a cell can hold (see :class:`~hwaware.hardware.devices.Device`).
        noise_us: read noise (µS) of each of ``readings`` at age 0, from the differences of repeated readings, since
            laws have no read noise at age 0; 0 at other ages. None: no cell was read twice at age 0.
    """

    readings: Readings
    stuck_on: tuple[int, int]
    stuck_off: tuple[int, int]
    aside: Readings
    departed: Readings
    dead: tuple[str, ...]
    limits_us: tuple[float | None, float | None]
    clamp: str
    noise_us: np.ndarray | None

    def most_at_an_age(self, part: Readings) -> tuple[float, float, tuple[str, ...]]:
        """The age (s) with the largest fraction of readings in ``part`` (``aside`` or ``departed``), that fraction, and
        the cells."""
        every = np.concatenate([self.readings.time_s, self.aside.time_s])
        age_s, index = np.unique(grouped_ages(np.concatenate([every, part.time_s])), return_inverse=True)
        share = np.bincount(index[len(every) :], minlength=len(age_s)) / np.bincount(index[: len(every)])
        cells = np.unique(part.cell[index[len(every) :] == share.argmax()])
        return float(age_s[share.argmax()]), float(share.max()), tuple(part.cells[cell] for cell in cells)


def clean(readings: Readings) -> Cleaned:
    """Excludes stuck cells, and outliers that do not show the state of their cell.

    Raises:
        UserError: most cells read low where the target is high, or the other way round.
    """
    low_us, high_us = readings.window_us
    width = high_us - low_us
    lowest, highest = _extremes(readings)
    target = np.zeros(len(readings.cells))
    target[readings.cell] = readings.target_us
    # A cell that was first read late and is found at an end may have got there since.
    new = np.isin(np.arange(len(target)), readings.cell[readings.time_s == 0])
    wants_low, wants_high = new & (target < low_us + width / 2), new & (target > low_us + width / 2)
    on = wants_low & (lowest >= high_us - STUCK_WITHIN * width)
    off = wants_high & (highest <= low_us + STUCK_WITHIN * width)
    _refuse_unwritten(readings, int((on | off).sum()))
    kept = readings.take(~(on | off)[readings.cell])
    outlying, distance_us = outliers(kept)
    dead = _dead(kept, outlying)
    stray = _strays(kept, outlying, distance_us) | dead[kept.cell]
    departed, aside, kept = kept.take(outlying & ~stray), kept.take(stray), kept.take(~stray)
    limits = _limits(kept)
    tolerance = 1e-3 * width
    at_ends = sum(
        int((kept.conductance_us == limit).sum())
        for limit, end in zip(limits, (low_us, high_us), strict=True)
        if limit is not None and abs(limit - end) <= tolerance
    )
    outside = (kept.conductance_us < low_us - tolerance) | (kept.conductance_us > high_us + tolerance)
    return Cleaned(
        kept,
        (int(on.sum()), int(wants_low.sum())),
        (int(off.sum()), int(wants_high.sum())),
        aside,
        departed,
        tuple(np.array(readings.cells)[dead].tolist()),
        limits,
        "window" if at_ends and outside.sum() <= _BEYOND_LIMIT * at_ends else "zero",
        _noise_when_new_us(kept, limits),
    )


def bins(values: np.ndarray, most: int, log: bool = False) -> np.ndarray:
    """A bin index per value: one bin per distinct value if there are at most ``most``, otherwise even bins."""
    distinct, index = np.unique(values, return_inverse=True)
    if len(distinct) <= most:
        return index
    distinct = np.log(distinct) if log else distinct
    share = (distinct - distinct[0]) / (distinct[-1] - distinct[0])
    return np.unique(np.minimum((share * most).astype(int), most - 1)[index], return_inverse=True)[1]


def states(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    """For each reading, the bin index of its target and of its age; age 0 is the first bin, if it exists."""
    age = np.zeros(len(readings), dtype=int)
    older = readings.time_s > 0
    if older.any():
        age[older] = bins(readings.time_s[older], MOST_AGES, log=True) + 1
    return bins(readings.target_us, MOST_STATES), np.unique(age, return_inverse=True)[1]


def grouped_ages(time_s: np.ndarray) -> np.ndarray:
    """Ages (s) for evaluating laws: those of the readings, or geometric means of neighbours if there are many."""
    if len(np.unique(time_s)) <= MOST_AGES:
        return time_s
    found = time_s.copy()
    older = time_s > 0
    group = bins(time_s[older], MOST_AGES, log=True)
    low, high = np.full(group.max() + 1, np.inf), np.zeros(group.max() + 1)
    np.minimum.at(low, group, time_s[older])
    np.maximum.at(high, group, time_s[older])
    # Rounding must not leave the group: below the youngest age a law may be undefined.
    mean = np.exp(np.bincount(group, np.log(time_s[older])) / np.bincount(group))
    found[older] = np.clip(mean, low, high)[group]
    return found


def outliers(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    """Outliers among the readings of a state, and their distances (µS) from the state's median.

    An outlier must be one both in conductance and in its logarithm, so that neither the long tail of a lognormal nor a
    cell near 0 µS counts. If many readings are censored at one value, half the range of the other states of that age is
    used.
    """
    target, age = states(readings)
    state = target * (age.max() + 1) + age
    far, distance_us = np.ones(len(readings), dtype=bool), np.zeros(len(readings))
    shift = readings.conductance_us - readings.target_us
    ratio = np.log(readings.conductance_us) - np.log(np.maximum(readings.target_us, 1e-9))
    for values in (shift, ratio):
        beyond, scale = np.zeros(len(values)), np.full(len(values), np.inf)
        cut_off = np.zeros(len(values), dtype=bool)
        for one in np.unique(state):
            members = np.flatnonzero(state == one)
            low, middle, high = np.quantile(values[members], (0.25, 0.5, 0.75))
            if values is shift:
                distance_us[members] = np.abs(values[members] - middle)
            beyond[members] = np.maximum(values[members] - high, low - values[members])
            cut_off[members] = low == values[members].min() or high == values[members].max()
            if len(members) >= _FEW:
                scale[members] = high - low
        for one in np.unique(age):
            members = np.flatnonzero(age == one)
            positive = scale[members][(scale[members] > 0) & np.isfinite(scale[members])]
            others = np.median(positive) / 2 if len(positive) else np.inf
            scale[members] = np.where(cut_off[members], np.maximum(scale[members], others), scale[members])
        far &= beyond > OUTLIER_IQR * scale
    return far, distance_us


def _refuse_unwritten(readings: Readings, stuck: int) -> None:
    new = readings.time_s == 0
    target, found = readings.target_us[new], readings.conductance_us[new]
    if len(np.unique(found)) == 1 < len(np.unique(target)):
        raise UserError(f"all cells read {found[0]:g} µS when just written, whatever their target: nothing to fit.")
    fall = len(np.unique(target)) > 1 and np.corrcoef(rankdata(target), rankdata(found))[0, 1] < -0.5
    if fall or stuck > readings.n_cells / 2:
        middle = sum(readings.window_us) / 2
        opposite = len(np.unique(readings.cell[new][(target - middle) * (found - middle) < 0]))
        raise UserError(
            f"{opposite} of {readings.n_cells} cells read at the opposite end of their target; are these resistances, "
            "or targets swapped?"
        )


def _dead(readings: Readings, outlying: np.ndarray) -> np.ndarray:
    """For each cell, whether it is an outlier just after writing and in most of its readings."""
    n = len(readings.cells)
    share = np.bincount(readings.cell, outlying, minlength=n) / np.maximum(np.bincount(readings.cell, minlength=n), 1)
    return (share > 0.5) & (np.bincount(readings.cell, outlying & (readings.time_s == 0), minlength=n) > 0)


def _strays(readings: Readings, outlying: np.ndarray, distance_us: np.ndarray) -> np.ndarray:
    """Which outliers do not show the state of their cell (strays).

    A reading is a stray if no repeat is within half its distance from the state's median, or if the cell comes back: a
    reading at a later age is not an outlier and less than half as far away. A last visit with a single reading is
    ambiguous. It is a stray if such readings are rare at that age (or as rare as strays elsewhere), or if it is more
    than the window's width above all other readings, where these cells have no state.
    """
    n, repeats = int(readings.visit[-1]) + 1, np.bincount(readings.visit)
    first = np.unique(readings.visit, return_index=True)[1]
    nearest_us = np.full(n, np.inf)
    np.minimum.at(nearest_us, readings.visit[~outlying], distance_us[~outlying])
    sound = np.isfinite(nearest_us)
    same_cell = np.append(readings.cell[first][1:] == readings.cell[first][:-1], False)
    later_us = np.full(n, np.inf)
    for visit in range(n - 2, -1, -1):
        if same_cell[visit]:
            later_us[visit] = min(nearest_us[visit + 1], later_us[visit + 1])
    stray = (repeats[readings.visit] > 1) & (_to_a_repeat_us(readings) > distance_us / 2)
    stray = outlying & (stray | (later_us[readings.visit] < distance_us / 2))
    only = ~same_cell & (repeats == 1) & np.append(False, same_cell[:-1] & sound[:-1])
    unknown = outlying & only[readings.visit]
    age = states(readings)[1]
    share = np.bincount(age, unknown) / np.bincount(age)
    rare = (share <= max(RARE, 2 * stray.mean()))[age]
    low_us, high_us = readings.window_us
    no_state = readings.conductance_us > readings.conductance_us[~outlying].max(initial=high_us) + high_us - low_us
    return stray | (unknown & (rare | no_state))


def _to_a_repeat_us(readings: Readings) -> np.ndarray:
    """Distance (µS) of each reading to the nearest other one of its visit; infinite without another."""
    order = np.lexsort((readings.conductance_us, readings.visit))
    gap = np.where(np.diff(readings.visit[order]) == 0, np.diff(readings.conductance_us[order]), np.inf)
    found = np.empty(len(order))
    found[order] = np.minimum(np.append(gap, np.inf), np.append(np.inf, gap))
    return found


def _extremes(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    lowest, highest = np.full(len(readings.cells), np.inf), np.full(len(readings.cells), -np.inf)
    np.minimum.at(lowest, readings.cell, readings.conductance_us)
    np.maximum.at(highest, readings.cell, readings.conductance_us)
    return lowest, highest


def _limits(readings: Readings) -> tuple[float | None, float | None]:
    """The outermost values that several cells share, and more than the next value inward, with few readings beyond."""
    found: list[float | None] = []
    for sign in (1, -1):
        value, index, at = np.unique(sign * readings.conductance_us, return_inverse=True, return_counts=True)
        pairs = np.unique(np.stack([index, readings.cell]), axis=1)
        cells = np.bincount(pairs[0], minlength=len(value))
        # Readings of an instrument with few digits are shared too, but do not pile up anywhere.
        shared = (cells >= _AT_LIMIT) & (at > np.append(at[1:], 0)) & (np.cumsum(at) - at <= _BEYOND_LIMIT * at)
        found.append(float(sign * value[shared.argmax()]) if shared.any() else None)
    return found[0], found[1]


def _noise_when_new_us(readings: Readings, limits: tuple[float | None, float | None]) -> np.ndarray | None:
    """See :attr:`Cleaned.noise_us`: for each state, or for all states together if there are few repeats."""
    count = np.bincount(readings.visit)
    mean = np.bincount(readings.visit, readings.conductance_us) / count
    squares = np.bincount(readings.visit, (readings.conductance_us - mean[readings.visit]) ** 2)
    cut_off = np.isin(readings.conductance_us, [limit for limit in limits if limit is not None])
    first, new = np.unique(readings.visit, return_index=True)[1], readings.time_s == 0
    several = (count > 1) & new[first] & (np.bincount(readings.visit, cut_off) == 0)
    if not several.any():
        return None
    state = states(readings)[0]
    freedom = np.bincount(state[first], (count - 1) * several)
    squares = np.bincount(state[first], squares * several)
    variance = np.where(freedom < _FEW, squares.sum() / freedom.sum(), squares / np.maximum(freedom, 1))
    return np.where(new, np.sqrt(variance)[state], 0.0)
