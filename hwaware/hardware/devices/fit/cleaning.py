"""What is set aside before a law is fitted: stuck cells and outliers; and the limits at which readings are cut off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from hwaware.errors import UserError
from hwaware.hardware.devices.fit.readings import Readings

#: A cell is stuck at an end of the window if all its readings, age 0 among them, are within this share of the window of
#: it (or beyond), while its target is in the other half.
STUCK_WITHIN = 0.05

#: An outlier lies so many interquartile ranges beyond the quartiles (Tukey's fences); of a Gaussian that is 6 σ.
OUTLIER_IQR = 4.0

#: Readings of a state that are too few to tell an outlier by.
_FEW = 8

#: Cells that must share a reading before it counts as a limit, and how many readings beyond it there may be for each
#: one at it.
_AT_LIMIT, _BEYOND_LIMIT = 3, 0.2

#: Share of the readings at one age up to which outlying ones are rare.
RARE = 0.005

#: More distinct targets, and ages, are taken together: neighbours by a sixteenth of the range, and by a sixtieth of
#: the logarithmic one.
MOST_STATES, MOST_AGES = 16, 60


@dataclass(frozen=True)
class Cleaned:
    """What the laws are fitted to, and what was set aside.

    Attributes:
        readings: without stuck cells and what is set aside.
        stuck_on, stuck_off: stuck cells, and the cells that could have shown it.
        aside: outlying readings that are not the cell's own behaviour, and those of dead cells.
        departed: outlying readings that are: the cell stays there. They are among ``readings``.
        dead: cells that were outlying when just written, and in most of their readings.
        limits_us: lowest and highest value where several cells share it and hardly a reading is beyond, as a clamp or
            an instrument makes them.
        clamp: what a cell can hold (see :class:`~hwaware.hardware.devices.Device`).
        noise_us: read noise of each of ``readings`` at age 0, which laws have none of, by the differences of repeats
            then, and 0 at other ages; None: no cell was read twice then.
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
        """The age (s) at which most readings belong to ``part``, ``aside`` or ``departed``, their share, and cells."""
        every = np.concatenate([self.readings.time_s, self.aside.time_s])
        age_s, index = np.unique(grouped_ages(np.concatenate([every, part.time_s])), return_inverse=True)
        share = np.bincount(index[len(every) :], minlength=len(age_s)) / np.bincount(index[: len(every)])
        cells = np.unique(part.cell[index[len(every) :] == share.argmax()])
        return float(age_s[share.argmax()]), float(share.max()), tuple(part.cells[cell] for cell in cells)


def clean(readings: Readings) -> Cleaned:
    """Sets stuck cells aside, and outlying readings that are not the cell's own behaviour.

    Raises:
        UserError: most cells conduct little where they should much, or the other way round.
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
        age[older] = bins(readings.time_s[older], MOST_AGES, log=True) + 1
    return bins(readings.target_us, MOST_STATES), np.unique(age, return_inverse=True)[1]


def grouped_ages(time_s: np.ndarray) -> np.ndarray:
    """Ages (s) as laws are evaluated at: the readings' own, or geometric means of neighbours where there are many."""
    if len(np.unique(time_s)) <= MOST_AGES:
        return time_s
    found = time_s.copy()
    older = time_s > 0
    group = bins(time_s[older], MOST_AGES, log=True)
    low, high = np.full(group.max() + 1, np.inf), np.zeros(group.max() + 1)
    np.minimum.at(low, group, time_s[older])
    np.maximum.at(high, group, time_s[older])
    # Rounding must not lead out of the group: below the youngest age a law may cover none.
    mean = np.exp(np.bincount(group, np.log(time_s[older])) / np.bincount(group))
    found[older] = np.clip(mean, low, high)[group]
    return found


def outliers(readings: Readings) -> tuple[np.ndarray, np.ndarray]:
    """Which readings lie far from their state's others, as conductances and as logarithms; and how far (µS).

    Both, so that neither a lognormal's long tail nor a cell near 0 µS passes for an error. Where many readings are cut
    off at one value, the range of the other states of that age serves, halved. How far is from the median.
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
    """By cell: those outlying when just written, and in most of their readings."""
    n = len(readings.cells)
    share = np.bincount(readings.cell, outlying, minlength=n) / np.maximum(np.bincount(readings.cell, minlength=n), 1)
    return (share > 0.5) & (np.bincount(readings.cell, outlying & (readings.time_s == 0), minlength=n) > 0)


def _strays(readings: Readings, outlying: np.ndarray, distance_us: np.ndarray) -> np.ndarray:
    """Which outlying readings are not where the cell is.

    No repeat is nearer than half as far as the state's others; or the cell comes back: a reading at a later age is not
    outlying and less than half as far from them. Of a last visit with one reading nobody knows: it is a stray where
    such are rare at that age, or as rare as strays elsewhere, and where it is more than the window's width above all
    that is not outlying, as no state of these cells is.
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
    """How far each reading is from its visit's nearest other one; infinite where there is none."""
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
    """The outermost values that several cells share, more than share the next inward, with hardly a reading beyond."""
    found: list[float | None] = []
    for sign in (1, -1):
        value, index, at = np.unique(sign * readings.conductance_us, return_inverse=True, return_counts=True)
        pairs = np.unique(np.stack([index, readings.cell]), axis=1)
        cells = np.bincount(pairs[0], minlength=len(value))
        # What an instrument of few digits reads is shared as well, but piles up nowhere.
        shared = (cells >= _AT_LIMIT) & (at > np.append(at[1:], 0)) & (np.cumsum(at) - at <= _BEYOND_LIMIT * at)
        found.append(float(sign * value[shared.argmax()]) if shared.any() else None)
    return found[0], found[1]


def _noise_when_new_us(readings: Readings, limits: tuple[float | None, float | None]) -> np.ndarray | None:
    """See :attr:`Cleaned.noise_us`: by state, or of all together where repeats are few."""
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
