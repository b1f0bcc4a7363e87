"""A time-independent lognormal variation of the conductances."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.censored import SMALLEST_VARIANCE
from hwaware.hardware.devices.device import Device

_LEAST_US, _BEYOND_US = 1e-12, 1e30  # below the first, a cell counts as 0 µS; the second stands for infinity


@dataclass(frozen=True, kw_only=True)
class LognormalSpread(Device):
    """``g' = g·e^θ``, ``θ ~ N(0, log_std²)``: a programming error, without later drift.

    The convention of ReRAM variation studies (L. Chen et al., DATE 2017, for weights: ``w' = w·e^θ``), which G. Charan
    et al., JXCDC 2020 (10.1109/JXCDC.2020.2987605), train against.

    Attributes:
        log_std: standard deviation of θ.
    """

    log_std: float

    has_time_law = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.log_std <= 3:
            raise UserError(f"log_std={self.log_std} of device '{self.name}' must lie in [0, 3] (0.1 is usual).")

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        variance = self.log_std**2
        return g_us * math.sqrt(math.expm1(variance) * math.exp(variance))

    def programmed_us(self, target_us: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        return draw().mul_(self.log_std).exp_().mul_(target_us)

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> float:
        return 0.0

    def drift_std_us(self, g_us: Tensor, age_s: float) -> float:
        return 0.0

    def cell_moments(self, g_us: Tensor, age_s: float, read_noise: bool = True) -> tuple[Tensor, Tensor]:
        self.check_age(age_s)
        low_us, high_us = self.limits_us
        std, g = max(self.log_std, 1e-9), g_us.clamp_min(_LEAST_US)
        # Moments of the factor, clamp(e^θ, low/g, high/g), which a cell at 0 µS has as well.
        low, high = (low_us or _LEAST_US**2) / g, (high_us or _BEYOND_US) / g
        bottom, top = low.log() / std, high.log() / std
        first, second = (
            low**power * torch.special.ndtr(bottom)
            + high**power * torch.special.ndtr(-top)
            + math.exp((power * std) ** 2 / 2)
            * (torch.special.ndtr(top - power * std) - torch.special.ndtr(bottom - power * std))
            for power in (1, 2)
        )
        variance = g_us.square() * (second - first.square())
        return g_us * first, variance.clamp_min(SMALLEST_VARIANCE).sqrt()

    def median_moments(
        self, g_us: Tensor, age_s: float, shrink: float, read_noise: bool = True
    ) -> tuple[Tensor, Tensor]:
        return replace(self, log_std=self.log_std * shrink).cell_moments(
            g_us, age_s, read_noise
        )  # the median of θ, since e^θ is monotone
