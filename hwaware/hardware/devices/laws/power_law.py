"""ReRAM whose conductance rises or falls as a power of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.censored import SMALLEST_VARIANCE, censored_moments
from hwaware.hardware.devices.device import Device


@dataclass(frozen=True, kw_only=True)
class MirroredPowerLaw(Device):
    """``g(t) = g_prog·t^(±v)``, up for one half of the cells and down for the other; the change grows with the state.

    The retention model of NeuroSim (neurosim/DNN_NeuroSim_V1.3) without a preferred direction; t in s.

    Attributes:
        exponent: v.
        programming_std_offset_us, programming_std_slope: standard deviation of the programming error: constant part
            (µS), and part proportional to the target.
    """

    exponent: float
    programming_std_offset_us: float = 0.0
    programming_std_slope: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("exponent", "programming_std_offset_us", "programming_std_slope"):
            if not getattr(self, field) >= 0:
                raise UserError(f"{field}={getattr(self, field)} of device '{self.name}' must be 0 or more.")

    @property
    def youngest_s(self) -> float:
        return 1.0

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        return g_us * self.programming_std_slope + self.programming_std_offset_us

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> Tensor:
        return g_us * (math.cosh(self._log_growth(age_s)) - 1)

    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor:
        return g_us * math.sinh(self._log_growth(age_s))

    def drifted_us(self, g_us: Tensor, target_us: Tensor, age_s: float, draw: Callable[[], Tensor]) -> Tensor:
        return g_us.mul_(draw().sign_().mul_(self._log_growth(age_s)).exp_())

    def cell_moments(self, g_us: Tensor, age_s: float, read_noise: bool = True) -> tuple[Tensor, Tensor]:
        # A mixture of two equally likely clamped Gaussians.
        self.check_age(age_s)
        std = self.programming_std_us(g_us)
        growth = self.growth(age_s) if age_s > 0 else 1.0
        up, down = (
            censored_moments(g_us * factor, (std * factor).clamp_min(1e-12), *self.limits_us)
            for factor in (growth, 1 / growth)
        )
        mean = (up[0] + down[0]) / 2
        apart = (up[0] - down[0]) / 2
        return mean, ((up[1].square() + down[1].square()) / 2 + apart.square()).clamp_min(SMALLEST_VARIANCE).sqrt()

    def median_moments(
        self, g_us: Tensor, age_s: float, shrink: float, read_noise: bool = True
    ) -> tuple[Tensor, Tensor]:
        return self.cell_moments(
            g_us, age_s, read_noise
        )  # the median is one of the cells that rose, or one of those that fell

    def growth(self, age_s: float) -> float:
        """The factor by which half of the cells have risen, and the other half have fallen, at an age (s)."""
        return math.exp(self._log_growth(self.equivalent_age_s(age_s)))

    def _log_growth(self, age_s: float) -> float:
        return self.exponent * math.log(age_s)
