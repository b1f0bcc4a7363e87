"""Likelihood of single readings under a device's law, censored at limits and independent of the cells' paths."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import log_ndtr

from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.fit.cleaning import Cleaned, grouped_ages, states
from hwaware.hardware.devices.laws.lognormal import LognormalSpread
from hwaware.hardware.devices.laws.power_law import MirroredPowerLaw


@dataclass(frozen=True)
class Sample:
    """Readings in the form for a likelihood: one element per reading, except ``ages`` and ``noise``.

    Attributes:
        y, log_y: conductances (µS), and their logarithms.
        cell: index of the cell.
        weight: one over the number of readings of its visit.
        ages: for each distinct age (s), the targets (µS) that were read; a *state* here is one such target and age.
        state: index of the reading's state.
        at_low, at_high: whether a reading is at a limit.
        floor: the smallest spread (µS) that differs from none.
        noise: for each state, the read noise (µS) that laws lack at age 0 (:attr:`Cleaned.noise_us`).
    """

    y: np.ndarray
    log_y: np.ndarray
    cell: np.ndarray
    weight: np.ndarray
    ages: tuple[tuple[float, torch.Tensor], ...]
    state: np.ndarray
    at_low: np.ndarray
    at_high: np.ndarray
    floor: float
    noise: np.ndarray

    @classmethod
    def of(cls, cleaned: Cleaned, kept: np.ndarray | None = None) -> Sample:
        """The cleaned readings, or those where ``kept`` is true."""
        readings = cleaned.readings if kept is None else cleaned.readings.take(kept)
        low, high = cleaned.limits_us
        width = np.ptp(cleaned.readings.target_us)
        age = grouped_ages(readings.time_s)
        (ages, targets), state = _unique_pairs(age, readings.target_us)
        blocks = tuple((float(one), torch.from_numpy(targets[ages == one].copy())) for one in np.unique(ages))
        noise = np.zeros(len(ages))
        if cleaned.noise_us is not None:
            noise[state] = cleaned.noise_us if kept is None else cleaned.noise_us[kept]
        y = readings.conductance_us
        none = np.zeros(len(y), dtype=bool)
        return cls(
            y,
            np.log(y),
            readings.cell,
            1.0 / np.bincount(readings.visit)[readings.visit],
            blocks,
            state,
            y <= low if low is not None else none,
            y >= high if high is not None else none,
            1e-5 * float(width),
            noise,
        )

    def reweighted(self, times: np.ndarray) -> Sample:
        """The same with each cell counted so many times."""
        return replace(self, weight=self.weight * times[self.cell])

    def log_likelihood(self, device: Device) -> np.ndarray:
        """Weighted log-likelihood of each reading: of a density (1/µS) inside the limits, of a probability at them."""
        parts = [self._gaussian(*kind) for kind in self.kinds(device)]
        value = parts[0] if len(parts) == 1 else np.logaddexp(*parts) - math.log(2)
        if isinstance(device, LognormalSpread):
            value = value - np.where(self.at_low | self.at_high, 0.0, self.log_y)
        return value * self.weight

    def kinds(self, device: Device) -> list[tuple[np.ndarray, np.ndarray, bool]]:
        """Mean and standard deviation of each state before the clamp, and whether they are those of the logarithm.

        One entry, or one for each of two equally likely kinds of cells.
        """
        if isinstance(device, LognormalSpread):
            mean = torch.cat([targets for _, targets in self.ages]).clamp_min(1e-9).log().numpy()
            return [(mean, np.hypot(max(device.log_std, 1e-5), self.noise * np.exp(-mean)), True)]
        if isinstance(device, MirroredPowerLaw):
            growths = [device.growth(age_s) if age_s > 0 else 1.0 for age_s, _ in self.ages]
            found = []
            for sign in (1, -1):
                factors = [growth**sign for growth in growths]
                means = [targets * factor for factor, (_, targets) in zip(factors, self.ages, strict=True)]
                stds = [
                    device.programming_std_us(targets) * factor
                    for factor, (_, targets) in zip(factors, self.ages, strict=True)
                ]
                found.append((means, stds))
        else:
            moments = [device.free_moments(targets, age_s) for age_s, targets in self.ages]
            found = [([mean for mean, _ in moments], [std.expand_as(mean) for mean, std in moments])]
        return [
            (torch.cat(means).numpy(), np.hypot(np.maximum(torch.cat(stds).numpy(), self.floor), self.noise), False)
            for means, stds in found
        ]

    def score(self, device: Device) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each kind and state: derivatives of the log-likelihood by mean and by spread, and weight of readings
        inside the limits."""
        kinds = self.kinds(device)
        parts = [self._gaussian(*kind) for kind in kinds]
        total = np.logaddexp.reduce(parts, axis=0)
        found, n_states = [], sum(len(targets) for _, targets in self.ages)
        for part, (mean, std, log) in zip(parts, kinds, strict=True):
            weight, std = self.weight * np.exp(part - total), std[self.state]
            z = ((self.log_y if log else self.y) - mean[self.state]) / std
            by_mean, by_std = z / std, (z * z - 1) / std
            for at, sign in ((self.at_low, -1), (self.at_high, 1)):
                inside = -sign * z[at]
                hazard = np.exp(-0.5 * inside * inside - 0.5 * math.log(2 * math.pi) - log_ndtr(inside))
                by_mean[at], by_std[at] = sign * hazard / std[at], sign * hazard * z[at] / std[at]
            inside = weight * ~(self.at_low | self.at_high)
            mean_slope, std_slope, within = (
                np.bincount(self.state, one, minlength=n_states) for one in (weight * by_mean, weight * by_std, inside)
            )
            found.append((mean_slope, std_slope, within))
        return found

    def _gaussian(self, mean: np.ndarray, std: np.ndarray, log: bool) -> np.ndarray:
        mean, std = mean[self.state], std[self.state]
        z = ((self.log_y if log else self.y) - mean) / std
        value = -0.5 * z * z - np.log(std) - 0.5 * math.log(2 * math.pi)
        value[self.at_low] = log_ndtr(z[self.at_low])
        value[self.at_high] = log_ndtr(-z[self.at_high])
        return value


@dataclass(frozen=True)
class Repeats:
    """Differences of repeated readings of a cell at one age, which are read noise only.

    Attributes:
        mean: conductance (µS), as a root mean square over visits with similar target and age.
        squares: sum of squared differences of the readings to their mean (µS²).
        freedom: number of readings minus one.
        cell: index of the cell.
        target: target (µS).
        ages: for each age (s) above 0, its visits.
        floor: the smallest spread (µS) that differs from none.
        weight: weight of each visit.
    """

    mean: torch.Tensor
    squares: np.ndarray
    freedom: np.ndarray
    cell: np.ndarray
    target: torch.Tensor
    ages: tuple[tuple[float, np.ndarray], ...]
    floor: float
    weight: np.ndarray

    @classmethod
    def of(cls, cleaned: Cleaned) -> Repeats | None:
        """Collects the repeats; None if no cell was read twice at an age above 0, far enough from the limits."""
        readings = cleaned.readings
        count = np.bincount(readings.visit)
        mean = np.bincount(readings.visit, readings.conductance_us) / count
        squares = np.bincount(readings.visit, (readings.conductance_us - mean[readings.visit]) ** 2)
        freedom = count - 1.0
        first = np.unique(readings.visit, return_index=True)[1]
        several = (count > 1) & (readings.time_s[first] > 0)
        if not several.any():
            return None
        target, age = (one[first] for one in states(readings))
        state = target * (age.max() + 1) + age

        def by_state(values: np.ndarray) -> np.ndarray:
            """For each visit, the sum over the visits of its state that count."""
            return np.bincount(state, values * several)[state]

        noise = np.sqrt(by_state(squares) / np.maximum(by_state(freedom), 1))
        low, high = cleaned.limits_us
        # By the mean, which does not depend on the differences, so that the choice is unbiased.
        several = several & (mean > (-math.inf if low is None else low + 6 * noise))
        several &= mean < (math.inf if high is None else high - 6 * noise)
        if not several.any():
            return None
        # Noise depends on the state of neighbouring visits, since a visit's own mean contains the noise.
        square = mean**2 - squares / np.maximum(freedom * count, 1)
        mean = np.sqrt(np.maximum(by_state(square) / np.maximum(by_state(np.ones(len(mean))), 1), 1e-12))
        visits = np.flatnonzero(several)
        age = grouped_ages(readings.time_s[first[visits]])
        return cls(
            torch.from_numpy(mean[visits]),
            squares[visits],
            freedom[visits],
            readings.cell[first[visits]],
            torch.from_numpy(readings.target_us[first[visits]]),
            tuple((float(one), np.flatnonzero(age == one)) for one in np.unique(age)),
            1e-5 * float(np.ptp(readings.target_us)),
            np.ones(len(visits)),
        )

    def reweighted(self, times: np.ndarray) -> Repeats:
        """The same with each cell counted so many times."""
        return replace(self, weight=self.weight * times[self.cell])

    def log_likelihood(self, device: Device) -> np.ndarray:
        """Log-likelihood of each visit, up to a constant."""
        std = np.empty(len(self.squares))
        for age_s, visits in self.ages:
            std[visits] = device.read_std_us(self.mean[visits], age_s, self.target[visits])
        std = np.maximum(std, self.floor)
        return self.weight * (-self.freedom * np.log(std) - self.squares / (2 * std * std))


def _unique_pairs(first: np.ndarray, second: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Distinct pairs, ascending by the first element, and the index of each element's pair."""
    pairs, index = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
    return (pairs[:, 0], pairs[:, 1]), index.reshape(-1)
