"""Drift whose mean and spread depend on the state and on the logarithm of time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.device import Device


@dataclass(frozen=True, kw_only=True)
class StateLogTimeDrift(Device):
    """Log-time drift with coefficients that are polynomials of the state.

    With ``x = g/fitted_g_max_us`` and polynomials ``p(x) = Σ p_i x^i`` (µS; t in s, natural logarithm):
    ``σ_prog = programming(x)``, ``μ = mean_offset(x) + mean_slope(x)·ln t``,
    ``σ = std_offset(x) + std_slope(x)·ln t``, ``σ_read = read(x)``; standard deviations are clipped at 0. A
    form of our own for fits to measurements: IBM's CMO law (arXiv 2502.04524) with state-dependent constants.

    A device file writes each polynomial as a list, lowest power first: ``drift_mean_slope_of_x: [-0.02, -0.3]``.

    Attributes:
        programming_std_of_x, read_std_of_x: standard deviations of the programming error and of a single read.
        drift_mean_offset_of_x, drift_mean_slope_of_x: mean change.
        drift_std_offset_of_x, drift_std_slope_of_x: standard deviation of the change between cells.
        fitted_g_max_us: the conductance (µS) at x = 1.
        min_age_s: the youngest age (s) above 0 that the law covers.
    """

    programming_std_of_x: tuple[float, ...]
    drift_mean_offset_of_x: tuple[float, ...]
    drift_mean_slope_of_x: tuple[float, ...]
    drift_std_offset_of_x: tuple[float, ...]
    drift_std_slope_of_x: tuple[float, ...]
    read_std_of_x: tuple[float, ...] = (0.0,)
    fitted_g_max_us: float
    min_age_s: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("fitted_g_max_us", "min_age_s"):
            if not 0 < getattr(self, field) < math.inf:
                raise UserError(f"{field}={getattr(self, field)} of device '{self.name}' must be above 0.")

    @property
    def youngest_s(self) -> float:
        return self.min_age_s

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        return self._of_x(self.programming_std_of_x, g_us).clamp_min(0)

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> Tensor:
        slope = self._of_x(self.drift_mean_slope_of_x, g_us)
        return slope.mul_(math.log(age_s)).add_(self._of_x(self.drift_mean_offset_of_x, g_us))

    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor:
        slope = self._of_x(self.drift_std_slope_of_x, g_us)
        return slope.mul_(math.log(age_s)).add_(self._of_x(self.drift_std_offset_of_x, g_us)).clamp_min(0)

    def read_std_us(self, g_us: Tensor, age_s: float, target_us: Tensor) -> Tensor | float:
        return self._of_x(self.read_std_of_x, g_us).clamp_min(0) if any(self.read_std_of_x) else 0.0

    def _of_x(self, coefficients: tuple[float, ...], g_us: Tensor) -> Tensor:
        x, value = g_us / self.fitted_g_max_us, torch.zeros_like(g_us)
        for coefficient in reversed(coefficients):
            value = value * x + coefficient
        return value
