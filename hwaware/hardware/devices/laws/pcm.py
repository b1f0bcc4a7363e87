"""Phase-change memory: conductances that decay as a power of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.devices.censored import SMALLEST_VARIANCE, censored_moments, std_of
from hwaware.hardware.devices.device import Device


@dataclass(frozen=True, kw_only=True)
class PowerLawDecay(Device):
    """``g(t) = g_prog·((t + t0)/t0)^(-ν)``, each cell with its own exponent ``ν = |N(μ_ν, σ_ν)|``.

    Form and constants of ``pcm``: Joshi et al., Nature Communications 11 (2020), 10.1038/s41467-020-16108-9, as in
    IBM's aihwkit. With ``x`` the target over g_max: ``σ_prog = p2·x² + p1·x + p0`` (µS, not below 0), ``μ_ν`` and
    ``σ_ν`` linear in ``ln x`` between bounds, read noise
    ``|g|·min(q/x^0.65, q_max)·sqrt(ln((t + t0 + t_read)/(2 t_read)))``. aihwkit uses
    the programmed value for x. The target is used here, which gives moments in closed form; idle cells differ by
    0.02 µS.

    Attributes:
        programming_std_us_of_x: p0, p1, p2.
        exponent_mean, exponent_std: slope in ln x, constant, lowest and highest value.
        start_s: t0.
        read_scale, read_power, read_max: q, the power of x, q_max.
        read_time_s: t_read.
    """

    programming_std_us_of_x: tuple[float, ...]
    exponent_mean: tuple[float, ...]
    exponent_std: tuple[float, ...]
    start_s: float = 20.0
    read_scale: float = 0.0
    read_power: float = 0.65
    read_max: float = 0.2
    read_time_s: float = 250e-9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clamp != "zero":  # a window would clip the read noise, and the moments would have no closed form
            raise UserError(f"clamp '{self.clamp}' of device '{self.name}' does not go with this law: it needs 'zero'.")
        for field, length in (("programming_std_us_of_x", 3), ("exponent_mean", 4), ("exponent_std", 4)):
            if len(getattr(self, field)) != length:
                raise UserError(f"{field}={list(getattr(self, field))} of device '{self.name}' needs {length} numbers.")
        for field in ("start_s", "read_time_s"):
            if not getattr(self, field) > 0:
                raise UserError(f"{field}={getattr(self, field)} of device '{self.name}' must be above 0.")
        for field, holds, bound in (
            ("exponent_mean", self.exponent_mean[2] >= 0, "must not be below 0"),
            ("exponent_std", self.exponent_std[2] > 0, "must be above 0"),
        ):
            if not holds:
                value = list(getattr(self, field))
                raise UserError(
                    f"{field}={value} of device '{self.name}': its third number, the lowest value, {bound}."
                )
        for field in ("read_scale", "read_max"):
            if getattr(self, field) < 0:
                raise UserError(f"{field}={getattr(self, field)} of device '{self.name}' must not be below 0.")

    def programming_std_us(self, g_us: Tensor) -> Tensor:
        p0, p1, p2 = self.programming_std_us_of_x
        x = self._x(g_us)
        return (p0 + x * (p1 + x * p2)).clamp_min(0)

    def drift_mean_us(self, g_us: Tensor, age_s: float) -> Tensor:
        return g_us * (self._factor_moments(g_us, age_s)[0] - 1)

    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor:
        first, second = self._factor_moments(g_us, age_s)
        return g_us * std_of(second - first.square())

    def drifted_us(self, g_us: Tensor, target_us: Tensor, age_s: float, draw: Callable[[], Tensor]) -> Tensor:
        mean, std = self._exponent(target_us)
        exponent = draw().mul_(std).add_(mean).abs_()
        return g_us.clamp_(min=0).mul_(exponent.mul_(-self._log_growth(age_s)).exp_())

    def read_std_us(self, g_us: Tensor, age_s: float, target_us: Tensor) -> Tensor:
        return g_us.abs() * self._relative_read_std(target_us, age_s)

    def cell_moments(self, g_us: Tensor, age_s: float, read_noise: bool = True) -> tuple[Tensor, Tensor]:
        # Three independent factors: programming, decay and reading. Reading can't change the sign.
        self.check_age(age_s)
        mean, std = censored_moments(g_us, self.programming_std_us(g_us).clamp_min(1e-12), *self.limits_us)
        if age_s == 0:
            return mean, std
        second = mean.square() + std.square()
        factors = [self._factor_moments(g_us, self.equivalent_age_s(age_s))]
        if read_noise:
            one = torch.ones_like(g_us)
            read_mean, read_std = censored_moments(one, self._relative_read_std(g_us, age_s), 0.0, None)
            factors.append((read_mean, read_mean.square() + read_std.square()))
        for factor_mean, factor_second in factors:
            mean, second = mean * factor_mean, second * factor_second
        return mean, (second - mean.square()).clamp_min(SMALLEST_VARIANCE).sqrt()

    def free_moments(self, g_us: Tensor, age_s: float, read_noise: bool = True) -> tuple[Tensor, Tensor]:
        mean, second = g_us, g_us.square() + self.programming_std_us(g_us).square()
        if age_s > 0:
            first, factor_second = self._factor_moments(g_us, self.equivalent_age_s(age_s))
            mean, second = mean * first, second * factor_second
            if read_noise:
                second = second * (1 + self._relative_read_std(g_us, age_s).square())
        return mean, (second - mean.square()).clamp_min(SMALLEST_VARIANCE).sqrt()

    def _x(self, g_us: Tensor) -> Tensor:
        return g_us / self.g_max_us

    def _log_growth(self, age_s: float) -> float:
        return math.log((age_s + self.start_s) / self.start_s)

    def _exponent(self, target_us: Tensor) -> tuple[Tensor, Tensor]:
        log_x = self._x(target_us).clamp_min(1e-12).log()
        found = []
        for slope, constant, low, high in (self.exponent_mean, self.exponent_std):
            found.append((log_x * slope + constant).clamp(low, high))
        return found[0], found[1]

    def _factor_moments(self, target_us: Tensor, age_s: float) -> tuple[Tensor, Tensor]:
        """E[f] and E[f²] of ``f = exp(-ν·L)``, ν a folded Gaussian."""
        mean, std = self._exponent(target_us)
        moments = []
        for power in (1, 2):
            rate = power * self._log_growth(age_s)
            shifted, half = rate * std, 0.5 * (rate * std).square()
            fall = torch.exp(half - rate * mean) * torch.special.ndtr(mean / std - shifted)
            rise = torch.exp(half + rate * mean) * torch.special.ndtr(-mean / std - shifted)
            moments.append(fall + rise)
        return moments[0], moments[1]

    def _relative_read_std(self, target_us: Tensor, age_s: float) -> Tensor:
        power = self._x(target_us).clamp_min(0).pow(self.read_power).clamp_min(1e-3)
        since = age_s + self.start_s  # the law's time runs from t0 before the first reading
        bandwidth = math.sqrt(math.log((since + self.read_time_s) / (2 * self.read_time_s)))
        return (self.read_scale / power).clamp_max(self.read_max) * bandwidth
