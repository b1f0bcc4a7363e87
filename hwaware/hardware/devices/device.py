"""The physics of one memory technology: a frozen set of parameters and pure functions of tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwaware.errors import UserError, nearest
from hwaware.hardware.devices.bootstrap import Bootstrap
from hwaware.hardware.devices.censored import SMALLEST_VARIANCE, censored_exponential, censored_moments
from hwaware.hardware.devices.die_spread import CUT_OFF, DieSpread
from hwaware.hardware.temperature import acceleration, is_extrapolated
from hwaware.system.names import check_name

CLAMPS = ("window", "zero")

#: Nodes of the quadrature over each Gaussian that a cell draws.
_NODES = 16


@dataclass(frozen=True, kw_only=True)
class Device(ABC):
    """One memory technology: the conductance of its cells after writing, after ageing, and when read.

    A subclass is one family of laws (programming error, drift and read noise) with its constants as fields. A preset is
    a YAML file that names the family and gives the constants. How cells hold weights is not part of the device: see
    :class:`hwaware.hardware.Encoding`.

    Attributes:
        name: the preset's name in results.
        source: where the constants come from.
        g_min_us, g_max_us: the conductance window in µS.
        clamp: the range that a cell can hold: the programming ``window``, or anything above ``zero``.
        stuck_on, stuck_off: probability that a cell is stuck at g_max / at g_min.
        temperature_c, activation_energy_ev: temperature (°C) at which chips age, and activation energy (eV) of drift
            (:mod:`hwaware.hardware.temperature`); None: the temperature that the law is stated for. All ages are real
            ages. Read noise is that of the real age, not of the equivalent one.
        measured_s, measured_us: first and last age above 0 (s), and lowest and highest target (µS), of the
            measurements behind the constants; None: not stated. Values outside are marked as extrapolated.
        die_spread: spread between dies (:class:`~hwaware.hardware.devices.die_spread.DieSpread`); None: all dies are
            alike. Chips draw from it; the device's own statistics are those of an average die.
        assumed: constants (also of the encoding) and other properties that were assumed, not measured; None: not
            stated.
        bootstrap: uncertainty of the constants; None: not stated. A chip may draw from it
            (:func:`~hwaware.hardware.devices.bootstrap.device_of_chip`); the device's own statistics do not include it.

    Raises:
        UserError: a constant is out of range.

    Examples:
        >>> import hwaware, torch
        >>> device = hwaware.load_device("reram_cmo")
        >>> mean, std = device.cell_moments(torch.tensor([50.0]), age_s=86400.0)  # µS, a day after writing
        >>> print(f"{mean.item():.2f} ± {std.item():.2f} µS")
        48.99 ± 1.08 µS
    """

    name: str
    source: str = ""
    g_min_us: float
    g_max_us: float
    clamp: str = "window"
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    temperature_c: float | None = None
    activation_energy_ev: float | None = None
    measured_s: tuple[float, ...] | None = None
    measured_us: tuple[float, ...] | None = None
    die_spread: DieSpread | None = None
    assumed: tuple[str, ...] | None = None
    bootstrap: Bootstrap | None = field(default=None, hash=False, repr=False)

    #: False: the law is the same at every age above 0, so that one age is enough.
    has_time_law = True

    @property
    def youngest_s(self) -> float:
        """The youngest age (s) above 0 that the law covers, at the law's own temperature."""
        return 0.0

    def __post_init__(self) -> None:
        check_name(self.name, "device")
        for one in fields(self):
            if isinstance(whole := getattr(self, one.name), list | dict | set):
                kind = type(whole).__name__
                raise UserError(f"{one.name} of device '{self.name}' is a {kind}, which is mutable: make it a tuple.")
            for value in _flat(whole):
                if isinstance(value, float) and not math.isfinite(value):
                    raise UserError(f"{one.name}={value} of device '{self.name}' is not a finite number.")
        if self.clamp not in CLAMPS:
            raise UserError(f"clamp '{self.clamp}' of device '{self.name}' is unknown. {nearest(self.clamp, CLAMPS)}")
        if not 0 <= self.g_min_us < self.g_max_us < math.inf:
            raise UserError(
                f"the conductance window of device '{self.name}' is empty: g_min_us={self.g_min_us} must be at least 0 "
                f"and below g_max_us={self.g_max_us}."
            )
        acceleration(self.temperature_c, self.activation_energy_ev)
        for name in ("measured_s", "measured_us"):
            ends = getattr(self, name)
            if ends is not None and not (len(ends) == 2 and 0 <= ends[0] <= ends[1]):
                raise UserError(f"{name}={list(ends)} of device '{self.name}' must be a lowest and a highest value.")
        self._check_die_spread()
        if self.stuck_on < 0 or self.stuck_off < 0 or self.stuck_on + self.stuck_off > 1:
            raise UserError(
                f"stuck_on={self.stuck_on} and stuck_off={self.stuck_off} must be probabilities that sum to at most 1."
            )
        if self.bootstrap is not None:
            self.bootstrap.check(self)

    def _check_die_spread(self) -> None:
        if self.die_spread is None:
            return
        if not self.die_spread.given():  # an empty spread is the same device as none
            object.__setattr__(self, "die_spread", None)
            return
        try:
            self.die_spread.check(self.g_min_us, self.g_max_us, (self.temperature_c, self.activation_energy_ev))
        except UserError as error:
            raise UserError(f"device '{self.name}': {error}") from None

    # The family's laws. Conductances are in µS; a result that does not depend on the state may be a float. Ages of
    # drift are equivalent ages, at the temperature that the law is stated for (equivalent_age_s).

    @abstractmethod
    def programming_std_us(self, g_us: Tensor) -> Tensor | float:
        """Standard deviation (µS) of the programming error of a cell with target ``g_us`` (µS)."""

    @abstractmethod
    def drift_mean_us(self, g_us: Tensor, age_s: float) -> Tensor | float:
        """Mean change (µS) of a cell's conductance at an age (s) above 0."""

    @abstractmethod
    def drift_std_us(self, g_us: Tensor, age_s: float) -> Tensor | float:
        """Standard deviation (µS) of that change between cells."""

    def programmed_us(self, target_us: Tensor, draw: Callable[[], Tensor]) -> Tensor:
        """Conductances (µS) just after writing, before the clamp; ``target_us`` itself if writing is exact.

        Args:
            target_us: target conductances (µS), any shape.
            draw: gives one standard Gaussian per cell; called at most once.
        """
        std = self.programming_std_us(target_us)
        return draw().mul_(std).add_(target_us) if isinstance(std, Tensor) or std else target_us

    def drifted_us(self, g_us: Tensor, target_us: Tensor, age_s: float, draw: Callable[[], Tensor]) -> Tensor:
        """Conductances (µS), before the clamp, of cells at an age above 0.

        Args:
            g_us: conductances (µS) just after writing, programming error included; may be overwritten.
            target_us: target conductances (µS).
            age_s: age (s) above 0.
            draw: gives each cell's standard Gaussian, the same at every age; called at most once.
        """
        std = self.drift_std_us(target_us, age_s)
        if isinstance(std, Tensor) or std:
            g_us = draw().mul_(std).add_(g_us)
        return g_us.add_(self.drift_mean_us(target_us, age_s))

    def read_std_us(self, g_us: Tensor, age_s: float, target_us: Tensor) -> Tensor | float:
        """Standard deviation (µS) of the read noise of cells that conduct ``g_us`` at an age (s) above 0."""
        return 0.0

    # Derived from the laws. Ages are real ages.

    def check_age(self, age_s: float) -> None:
        """Raises UserError for an age that the law does not cover, even if only on the coldest die."""
        if not 0 <= age_s < math.inf:
            raise UserError(f"age_s={age_s} is not an age: it must be 0 (just written) or more seconds.")
        equivalent_s, on = self._least_equivalent_s(age_s), ""
        if 0 < equivalent_s < self.youngest_s:
            if equivalent_s < self.equivalent_age_s(age_s):
                on = " on the coldest chips"
            raise UserError(
                f"age_s={age_s} is below what the law of device '{self.name}' covers{on}: "
                f"use 0 (just written) or at least {age_s * (self.youngest_s / equivalent_s):.6g} s."
            )

    def check_law(self, age_s: float) -> None:
        """Raises UserError if the law does not cover an age, or gives conductances there that are not finite."""
        targets = torch.linspace(self.g_min_us, self.g_max_us, 5, dtype=torch.float64)
        mean, std = self.cell_moments(targets, age_s)
        wrong = ~(mean + std).isfinite()
        if wrong.any():
            raise UserError(
                f"the law of device '{self.name}' gives no finite conductance for a cell of {targets[wrong][0]:g} µS "
                f"at age_s={age_s:g}."
            )

    def equivalent_age_s(self, age_s: float) -> float:
        """The age (s) at the law's own temperature that causes the same drift as this age at ``temperature_c``."""
        return age_s * acceleration(self.temperature_c, self.activation_energy_ev)

    def _least_equivalent_s(self, age_s: float) -> float:
        """The equivalent age (s) on the coldest die."""
        if self.die_spread is None or self.temperature_c is None or not self.die_spread.temperature_k:
            return self.equivalent_age_s(age_s)
        coldest_c = self.temperature_c - CUT_OFF * self.die_spread.temperature_k
        return age_s * acceleration(coldest_c, self.activation_energy_ev)

    def extrapolates(self, age_s: float) -> bool:
        """Whether an age (s) lies outside the ages at which the law's constants were measured."""
        return is_extrapolated(age_s, self.measured_s, self.temperature_c, self.activation_energy_ev)

    @property
    def unmeasured_us(self) -> tuple[tuple[float, float], ...]:
        """The parts of the window (µS) outside the measured targets."""
        low, high = self.measured_us or (self.g_min_us, self.g_max_us)
        parts = ((self.g_min_us, min(low, self.g_max_us)), (max(high, self.g_min_us), self.g_max_us))
        return tuple((start, end) for start, end in parts if start < end)

    @property
    def middle_us(self) -> float:
        """The middle of the conductance window."""
        return (self.g_min_us + self.g_max_us) / 2

    @property
    def limits_us(self) -> tuple[float, float | None]:
        """Lowest and highest conductance (µS) that a cell can hold, by the clamp; None: no upper limit."""
        return (self.g_min_us, self.g_max_us) if self.clamp == "window" else (0.0, None)

    def given(self) -> dict[str, Any]:
        """All fields as plain types, without optional fields that are not set."""
        values = {one: getattr(self, one.name) for one in fields(self)}
        found = {one.name: value for one, value in values.items() if value is not None or one.default is not None}
        found |= {} if self.die_spread is None else {"die_spread": self.die_spread.given()}
        return found | ({} if self.bootstrap is None else {"bootstrap": asdict(self.bootstrap)})

    def params(self) -> dict[str, Any]:
        """The same as :meth:`given` without name, source and bootstrap, for results."""
        return {key: value for key, value in self.given().items() if key not in ("name", "source", "bootstrap")}

    def cell_moments(self, g_us: Tensor, age_s: float, read_noise: bool = True) -> tuple[Tensor, Tensor]:
        """Closed-form mean and standard deviation (µS) of a clamped cell that is not stuck.

        Args:
            g_us: target conductances (µS), any shape; float64 is advisable.
            age_s: age (s); at 0 there is only the programming error.
            read_noise: whether to include the noise of a single read (never at age 0). It depends on the state; the
                mean state is used, which is exact to second order in σ/g.

        Returns:
            Mean and standard deviation, in the shape of ``g_us``.

        Raises:
            UserError: the law does not cover the age.
        """
        self.check_age(age_s)
        return censored_moments(*self.free_moments(g_us, age_s, read_noise), *self.limits_us)

    def cell_exponential(self, g_us: Tensor, age_s: float, rate: float, read_noise: bool = True) -> Tensor:
        """``E exp(rate·(G - g))`` of a clamped cell that is not stuck, with conductance G and target g.

        In closed form if the change of a cell is Gaussian before the clamp, otherwise by quadrature over its draws.

        Args:
            g_us, age_s, read_noise: see :meth:`cell_moments`.
            rate: in 1/µS, positive or negative.
        """
        self.check_age(age_s)
        if self.is_gaussian:
            mean, std = self.free_moments(g_us, age_s, read_noise)
            return self._exponential(mean, std, g_us, rate)
        nodes, weights = _gauss_hermite()
        target = g_us[..., None, None].expand(*g_us.shape, len(nodes), len(nodes))
        programmed = self.programmed_us(target.clone(), lambda: nodes[:, None].expand(target.shape).clone())
        if age_s == 0:
            found = self._exponential(programmed, torch.zeros_like(target), target, rate)
        else:
            drifted = self.drifted_us(
                programmed, target, self.equivalent_age_s(age_s), lambda: nodes.expand(target.shape).clone()
            )
            read = self.read_std_us(drifted, age_s, target) if read_noise else 0.0
            found = self._exponential(drifted, torch.zeros_like(target) + read, target, rate)
        return (found * weights * weights[:, None]).sum((-2, -1))

    @property
    def is_gaussian(self) -> bool:
        """Whether the change of a cell is Gaussian before the clamp."""
        own = type(self)
        return own.programmed_us is Device.programmed_us and own.drifted_us is Device.drifted_us

    def _exponential(self, mean: Tensor, std: Tensor, g_us: Tensor, rate: float) -> Tensor:
        low, high = self.limits_us
        return censored_exponential(mean - g_us, std, low - g_us, None if high is None else high - g_us, rate)

    def median_moments(
        self, g_us: Tensor, age_s: float, shrink: float, read_noise: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (µS) of the median of several cells with the same target.

        If the change of a cell is Gaussian before the clamp, the result is exact except for the shape of the median's
        density.

        Args:
            g_us, age_s, read_noise: see :meth:`cell_moments`.
            shrink: standard deviation of the median of that many standard Gaussians.
        """
        self.check_age(age_s)
        mean, std = self.free_moments(g_us, age_s, read_noise)
        return censored_moments(mean, std * shrink, *self.limits_us)

    def free_moments(self, g_us: Tensor, age_s: float, read_noise: bool = True) -> tuple[Tensor, Tensor]:
        """The same before the clamp, for a censored likelihood."""
        mean, variance = g_us, g_us.new_zeros(()) + self.programming_std_us(g_us) ** 2
        if age_s > 0:
            drift_age_s = self.equivalent_age_s(age_s)
            mean = g_us + self.drift_mean_us(g_us, drift_age_s)
            variance = variance + self.drift_std_us(g_us, drift_age_s) ** 2
            if read_noise:
                variance = variance + self.read_std_us(mean, age_s, g_us) ** 2
        # A cell without any spread (an idle one at 0 µS) would have an infinite derivative.
        return mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt()


@lru_cache(maxsize=1)
def _gauss_hermite() -> tuple[Tensor, Tensor]:
    """Gauss-Hermite nodes and weights for a standard Gaussian; their number is even, so no node is zero."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def _flat(value: Any) -> Iterator[Any]:
    """The values in nested tuples."""
    if not isinstance(value, tuple):
        yield value
        return
    for one in value:
        yield from _flat(one)
