"""Relaxation after programming, measured at a few times: HfOx ReRAM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.censored import std_of
from hwaware.hardware.devices.device import Device


@dataclass(frozen=True, kw_only=True)
class MeasuredRelaxation(Device):
    """A spread about the target that is a polynomial of the state at each measured time; the mean does not drift.

    Form and constants of ``reram_wan2022``: Wan et al., Nature 608 (2022), 10.1038/s41586-022-04992-8, as fitted in
    IBM's aihwkit: ``σ(g) = Σ c_i (g/g_max)^i`` µS at 1 s, 1 day and 2 days. The first is the programming error.
    Here σ is linear in the logarithm of time between measurements. Beyond the last one it is extrapolated, by us, with
    the mean slope from the first to the last measurement (between the last two, the fit is noisier than the change).

    The programming error of a cell stays: the later spread adds to it, along the cell's own path.

    Attributes:
        times_s: times of the measurements (s), ascending.
        std_us: for each time, the coefficients c_0 … of σ (µS).
        fitted_g_max_us: g_max (µS) of the measurement; for another window, σ and g scale with g_max.
    """

    times_s: tuple[float, ...]
    std_us: tuple[tuple[float, ...], ...]
    fitted_g_max_us: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.times_s) < 2 or len(self.times_s) != len(self.std_us):
            raise UserError(
                f"times_s={list(self.times_s)} of device '{self.name}' has {len(self.times_s)} times and std_us has "
                f"{len(self.std_us)} lists: give at least 2 times, and one list for each."
            )
        if self.times_s[0] <= 0 or any(a >= b for a, b in pairwise(self.times_s)):
            raise UserError(f"times_s={list(self.times_s)} of device '{self.name}' must be above 0 and ascend.")
        if not 0 < self.fitted_g_max_us < math.inf:
            raise UserError(f"fitted_g_max_us={self.fitted_g_max_us} of device '{self.name}' must be above 0.")

    @property
    def youngest_s(self) -> float:
        return self.times_s[0]

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        return self._measured(g_us, 0)

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> float:
        return 0.0

    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor:
        times, last = [math.log(time) for time in self.times_s], len(self.times_s) - 1
        log_age = math.log(age_s)
        place = sum(time <= log_age for time in times) - 1
        if place < last:
            low, high, share = place, place + 1, (log_age - times[place]) / (times[place + 1] - times[place])
        else:
            low, high, share = 0, last, (log_age - times[0]) / (times[last] - times[0])
        std = torch.lerp(self._measured(g_us, low), self._measured(g_us, high), share)
        # The measured spread includes the programming error.
        return std_of(std.square() - self._measured(g_us, 0).square())

    def _measured(self, g_us: Tensor, place: int) -> Tensor:
        x, std = g_us / self.g_max_us, torch.zeros_like(g_us)
        for coefficient in reversed(self.std_us[place]):
            std = std * x + coefficient
        return std.clamp_min(0) * (self.g_max_us / self.fitted_g_max_us)
