"""Families of retention laws in which the change of a cell is Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.device import Device


def _refuse_negative(device: Device, *fields: str) -> None:
    for field in fields:
        if not 0 <= getattr(device, field) < math.inf:
            raise UserError(f"{field}={getattr(device, field)} of device '{device.name}' must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class LogTimeDrift(Device):
    """Drift whose mean and spread are linear in the logarithm of time and do not depend on the state.

    Form and constants of the ReRAM presets: Falcone et al., arXiv 2502.04524 (CMO/HfOx ReRAM):
    ``σ_prog(g) = programming_std_slope·g + programming_std_offset_us``,
    ``μ(t) = drift_mean_slope_us·ln t``, ``σ(t) = drift_std_slope_us·ln t + drift_std_offset_us``,
    ``σ_read(g, t) = read_coefficient·log10(g)·sqrt(ln((t + t_read)/(2 t_read)))``; µS, s, natural logarithm.

    Attributes:
        min_age_s: the shortest age above 0 that was measured.
    """

    programming_std_offset_us: float
    programming_std_slope: float
    drift_mean_slope_us: float
    drift_std_offset_us: float
    drift_std_slope_us: float
    read_coefficient_us: float = 0.0
    read_time_s: float = 1e-6
    min_age_s: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_negative(
            self,
            "programming_std_offset_us",
            "programming_std_slope",
            "drift_std_offset_us",
            "drift_std_slope_us",
            "read_coefficient_us",
        )
        if self.min_age_s < 1 or not 0 < self.read_time_s < self.min_age_s:
            raise UserError(
                f"min_age_s={self.min_age_s} of device '{self.name}' must be at least 1 s (below, ln t is negative), "
                f"and "
                f"read_time_s={self.read_time_s} must be above 0 and shorter."
            )

    @property
    def youngest_s(self) -> float:
        return self.min_age_s

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        return (g_us * self.programming_std_slope).add_(self.programming_std_offset_us)

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> float:
        return self.drift_mean_slope_us * math.log(age_s)

    def drift_std_us(self, g_us: Tensor, age_s: float) -> float:
        return self.drift_std_slope_us * math.log(age_s) + self.drift_std_offset_us

    def read_std_us(self, g_us: Tensor, age_s: float, target_us: Tensor) -> Tensor | float:
        if not self.read_coefficient_us:
            return 0.0
        bandwidth = math.sqrt(math.log((age_s + self.read_time_s) / (2 * self.read_time_s)))
        # Below 1 µS the fitted logarithm is negative.
        return g_us.clamp_min(1.0).log10_().mul_(self.read_coefficient_us * bandwidth)


@dataclass(frozen=True, kw_only=True)
class RelativeDrift(Device):
    """Time-independent Gaussian drift with a standard deviation proportional to the target.

    "G_r = G_t + N(0, (relative_drift·G_t)²)", the drift model of DoRA calibration (arXiv 2504.03763).

    Attributes:
        relative_drift: σ relative to the target conductance; 0.1 for "10 %".
    """

    relative_drift: float

    has_time_law = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_negative(self, "relative_drift")

    def programming_std_us(self, g_us: Tensor) -> float:
        return 0.0

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> float:
        return 0.0

    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor:
        return g_us * self.relative_drift
