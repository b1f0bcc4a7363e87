"""The device as realised on one die, if dies differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.die_spread import CUT_OFF, DieSpread, reach
from hwaware.hardware.draws import stream
from hwaware.hardware.temperature import acceleration


@dataclass(frozen=True, kw_only=True)
class Die:
    """A device as one die has it: the device's law with the constants that the die drew (:class:`DieSpread`).

    Chips are made of dies. Weights are encoded for the device itself, because a die is not known in advance: a target
    outside the die's window is clipped to it, and conductances are decoded with the device's window. Training and the
    predictions of a plan also use the device.

    Attributes:
        device: the memory technology.
        drift_mean, drift_std, programming: factors. ``programming`` scales the whole programming error of a cell.
            ``drift_mean`` scales the law's mean change, ``drift_std`` a cell's deviation from that mean, for any law.
        g_min_us, g_max_us: the die's window (µS). Laws depend on conductances in µS, so the window does not change
            them.
        temperature_c: temperature of the die (°C).
    """

    device: Device
    drift_mean: float = 1.0
    drift_std: float = 1.0
    programming: float = 1.0
    g_min_us: float
    g_max_us: float
    temperature_c: float | None

    @property
    def stuck_on(self) -> float:
        """Probability that a cell is stuck at the die's g_max."""
        return self.device.stuck_on

    @property
    def stuck_off(self) -> float:
        """Probability that a cell is stuck at the die's g_min."""
        return self.device.stuck_off

    @property
    def limits_us(self) -> tuple[float, float | None]:
        """Lowest and highest conductance (µS) that a cell can hold, by the clamp; None: no upper limit."""
        own = self._has_own_window and self.device.clamp == "window"
        return (self.g_min_us, self.g_max_us) if own else self.device.limits_us

    def equivalent_age_s(self, age_s: float) -> float:
        """The age (s) at the law's own temperature that causes the same drift as this age on the die."""
        if self.temperature_c == self.device.temperature_c:
            return self.device.equivalent_age_s(age_s)
        return age_s * acceleration(self.temperature_c, self.device.activation_energy_ev)

    def programmed_us(self, target_us: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """See :meth:`Device.programmed_us`."""
        target_us = self._within(target_us)
        programmed = self.device.programmed_us(target_us, draw)
        if self.programming == 1 or programmed is target_us:
            return programmed
        return programmed.sub_(target_us).mul_(self.programming).add_(target_us)

    def drifted_us(self, g_us: Tensor, target_us: Tensor, age_s: float, draw: Callable[[], Tensor]) -> Tensor:
        """See :meth:`Device.drifted_us`."""
        target_us = self._within(target_us)
        if self.drift_mean == 1 and self.drift_std == 1:
            return self.device.drifted_us(g_us, target_us, age_s, draw)
        mean, before = self.device.drift_mean_us(target_us, age_s), g_us.clone()
        change = self.device.drifted_us(g_us, target_us, age_s, draw).sub_(before)
        return change.mul_(self.drift_std).add_(before).add_(mean * (self.drift_mean - self.drift_std))

    def read_std_us(self, g_us: Tensor, age_s: float, target_us: Tensor) -> Tensor | float:
        """See :meth:`Device.read_std_us`."""
        return self.device.read_std_us(g_us, age_s, self._within(target_us))

    @property
    def _has_own_window(self) -> bool:
        return (self.g_min_us, self.g_max_us) != (self.device.g_min_us, self.device.g_max_us)

    def _within(self, target_us: Tensor) -> Tensor:
        """Targets (µS) clipped to the die's window."""
        return target_us.clamp(self.g_min_us, self.g_max_us) if self._has_own_window else target_us


@lru_cache(maxsize=256)
def die_of(device: Device, chip_seed: int) -> Die:
    """Draws the die that a chip is made on; the device unchanged if it states no spread between dies.

    Each constant has its own random stream, keyed by the number of the die (``chip_seed // chips_per_die``). So all
    devices on one chip deviate in the same direction.
    """
    spread, temperature_c = device.die_spread or DieSpread(), device.temperature_c
    key = f"{chip_seed // spread.chips_per_die}/die"

    def factor(constant: str, share: float) -> float:
        return 1 + share * _cut_off_gaussian(f"{key}/{constant}", reach(share)) if share else 1.0

    if spread.temperature_k and temperature_c is not None:
        temperature_c += spread.temperature_k * _cut_off_gaussian(f"{key}/temperature_c", CUT_OFF)
    return Die(
        device=device,
        drift_mean=factor("drift_mean", spread.drift_mean),
        drift_std=factor("drift_std", spread.drift_std),
        programming=factor("programming", spread.programming),
        g_min_us=device.g_min_us * factor("g_min_us", spread.window),
        g_max_us=device.g_max_us * factor("g_max_us", spread.window),
        temperature_c=temperature_c,
    )


def _cut_off_gaussian(key: str, most: float) -> float:
    """One draw from a standard Gaussian truncated at ±``most``."""
    below = torch.special.ndtr(torch.tensor(-most, dtype=torch.float64))
    uniform = torch.rand((), dtype=torch.float64, generator=stream(key))
    return float(torch.special.ndtri(below + uniform * (1 - 2 * below)))
