"""Spread between dies, from readings that name the die of each cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.fit.cleaning import Cleaned, grouped_ages

#: Fewest dies, and fewest cells per die, for an estimate.
FEWEST_DIES, FEWEST_CELLS = 3, 10

#: A state counts if its mean is this many standard deviations away from the limits, since censored readings say little.
_FROM_LIMITS = 3.0

#: Largest standard error of a die's factor for an estimate.
_UNTOLD = 0.5


@dataclass(frozen=True)
class Between:
    """The spread of one constant between dies.

    Attributes:
        constant: name in :class:`~hwaware.hardware.devices.die_spread.DieSpread`.
        share: standard deviation over mean; NaN if the readings do not determine it.
        low, high: its 95 % interval, from the χ² distribution of the variance over dies.
        of_die: for each die, its relative deviation from the mean of all, shrunk by the part that the variation between
            cells explains.
    """

    constant: str
    share: float
    low: float = math.nan
    high: float = math.nan
    of_die: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class _Moments:
    """A law's standard deviations and mean change (µS) for each reading that counts, with its cell and weight."""

    shift: np.ndarray
    new: np.ndarray
    cell: np.ndarray
    weight: np.ndarray
    programming: np.ndarray
    mean: np.ndarray
    drift: np.ndarray
    read: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """Total variance (µS²)."""
        return self.programming**2 + self.drift**2 + self.read**2

    def take(self, kept: np.ndarray) -> _Moments:
        """The readings where ``kept`` is true."""
        return _Moments(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


def between_dies(cleaned: Cleaned, device: Device) -> tuple[Between, ...]:
    """The spreads of drift mean, drift spread and programming error between dies; empty without enough dies.

    For each die, factors on the law that was fitted to all dies are estimated by moments. Their standard errors are
    clustered by cell, since a cell's readings are correlated. A one-way model with random dies then gives the variance
    of the factors that these errors do not explain (method of moments).

    Args:
        cleaned: the readings.
        device: the law, fitted to all dies together.
    """
    if cleaned.readings.die is None:
        return ()
    every = _moments(cleaned, device)
    die = cleaned.readings.die[every.cell]
    found: dict[str, list[tuple[float, float]]] = {"drift_mean": [], "drift_std": [], "programming": []}
    dies = []
    for one in np.unique(die):
        own = every.take(die == one)
        if len(np.unique(own.cell[own.new])) < FEWEST_CELLS or len(np.unique(own.cell[~own.new])) < FEWEST_CELLS:
            continue
        dies.append(int(one))
        for constant, factor in _factors(own):
            found[constant].append(factor)
    if len(dies) < FEWEST_DIES:
        return ()
    return tuple(_between(constant, factors, dies) for constant, factors in found.items())


def as_on_one_die(cleaned: Cleaned, device: Device, drift_mean: Between) -> Cleaned:
    """Subtracts the deviation of each die's mean drift from the readings; readings at a limit stay.

    So the fitted spread of drift is that between the cells of a die.
    """
    readings = cleaned.readings
    assert readings.die is not None  # or there is no spread between dies
    off = np.zeros(len(readings.dies))
    for die, share in drift_mean.of_die:
        off[die] = share
    free = ~np.isin(readings.conductance_us, [limit for limit in cleaned.limits_us if limit is not None])
    moved = readings.conductance_us - off[readings.die[readings.cell]] * _drift_mean_us(cleaned, device) * free
    positive = np.where(moved > 0, moved, readings.conductance_us)
    return replace(cleaned, readings=replace(readings, conductance_us=positive))


def _drift_mean_us(cleaned: Cleaned, device: Device) -> np.ndarray:
    """Mean drift (µS) of each reading by the law; 0 at age 0."""
    readings, found = cleaned.readings, np.zeros(len(cleaned.readings))
    ages = grouped_ages(readings.time_s)
    for age_s in np.unique(ages[ages > 0]):
        here = ages == age_s
        found[here] = device.drift_mean_us(torch.from_numpy(readings.target_us[here]), float(age_s))
    return found


def _moments(cleaned: Cleaned, device: Device) -> _Moments:
    """Moments for the readings of states that are far enough from the limits."""
    readings = cleaned.readings
    target = torch.from_numpy(readings.target_us)
    ages = grouped_ages(readings.time_s)
    programming, drift, read = (np.zeros(len(readings)) for _ in range(3))
    mean = _drift_mean_us(cleaned, device)
    for age_s in np.unique(ages):
        here = ages == age_s
        g = target[here]
        programming[here] = device.programming_std_us(g)
        if age_s > 0:
            drift[here] = device.drift_std_us(g, float(age_s))
            read[here] = device.read_std_us(g + torch.from_numpy(mean[here]), float(age_s), g)
    if cleaned.noise_us is not None:
        read = np.hypot(read, cleaned.noise_us)
    weight = 1.0 / np.bincount(readings.visit)[readings.visit]
    shift = readings.conductance_us - readings.target_us
    found = _Moments(shift, readings.time_s == 0, readings.cell, weight, programming, mean, drift, read)
    room = _FROM_LIMITS * np.sqrt(found.variance)
    low, high = cleaned.limits_us
    inside = np.ones(len(shift), dtype=bool) if low is None else readings.target_us + mean - room > low
    return found.take(inside if high is None else inside & (readings.target_us + mean + room < high))


def _factors(one: _Moments) -> Iterator[tuple[str, tuple[float, float]]]:
    """The factor on each constant that fits a die's readings, and its standard error."""
    new, old = one.take(one.new & (one.programming > 0)), one.take(~one.new)
    written = 1.0
    if len(new.shift):
        square = new.shift**2 - new.read**2
        written, error = _ratio(square / new.programming**2, np.ones(len(square)), new.weight, new.cell)
        yield "programming", _root(written, error)
    weight = old.weight / old.variance
    moved, error = 1.0, math.inf
    if (old.mean != 0).any():
        moved, error = _ratio(old.shift * old.mean, old.mean**2, weight, old.cell)
    if error < _UNTOLD:
        yield "drift_mean", (moved, error)
    else:
        moved = 1.0
    if (old.drift > 0).any():
        square = (old.shift - moved * old.mean) ** 2 - written * old.programming**2 - old.read**2
        yield "drift_std", _root(*_ratio(square * old.drift**2, old.drift**4, weight / old.variance, old.cell))


def _ratio(over: np.ndarray, under: np.ndarray, weight: np.ndarray, cell: np.ndarray) -> tuple[float, float]:
    """A ratio of weighted sums, and its standard error over cells."""
    total = float((weight * under).sum())
    ratio = float((weight * over).sum()) / total
    of_cell = np.bincount(cell, weight * (over - ratio * under))
    n = len(np.unique(cell))
    return ratio, math.sqrt(float((of_cell**2).sum()) * n / (n - 1)) / total


def _root(square: float, error: float) -> tuple[float, float]:
    """A factor and its standard error, from its square."""
    factor = math.sqrt(max(square, 0.0))
    return factor, error / (2 * factor) if factor else math.inf


def _between(constant: str, factors: list[tuple[float, float]], dies: list[int]) -> Between:
    from scipy.special import chdtri

    found, errors = (np.array(part) for part in zip(*factors, strict=True)) if factors else (np.zeros(0), np.zeros(0))
    if len(found) < len(dies) or not (errors < _UNTOLD).all():
        return Between(constant, math.nan)
    freedom = len(dies) - 1
    variance, by_cells = float(found.var(ddof=1)), float((errors**2).mean())
    ends = (freedom / float(chdtri(freedom, tail)) for tail in (0.025, 0.975))
    share, low, high = (math.sqrt(max(part * variance - by_cells, 0.0)) / float(found.mean()) for part in (1.0, *ends))
    own = (share * found.mean()) ** 2
    off = (found / found.mean() - 1) * own / np.maximum(own + errors**2, 1e-300)
    return Between(constant, share, low, high, tuple(zip(dies, off.tolist(), strict=True)))
