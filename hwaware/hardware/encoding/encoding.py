"""How a weight is held by memory cells, and read back from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hwaware.errors import UserError, nearest
from hwaware.hardware.devices.censored import SMALLEST_VARIANCE
from hwaware.hardware.devices.device import Device
from hwaware.hardware.encoding import curve, targets
from hwaware.hardware.encoding.formats import Codes, Continuous, Levels, NumberFormat, format_words, quantise
from hwaware.hardware.encoding.mapping import (
    BIT_SLICED,
    Mapping,
    bit_sliced,
    cell_levels,
    levels_of_cells,
    mapping_of,
)
from hwaware.hardware.encoding.parallel import COMBINATIONS, merged, remaining_std
from hwaware.hardware.encoding.scale import SCALE_NAMES, SCALES, FixedScale, Scale, normalised

#: Most cells in parallel: beyond, errors that all cells have in common are all that is left.
MOST_PARALLEL = 4096

#: Least variance of ``ŵ/s``, which keeps the square root's gradient finite.
_SMALLEST_ERROR = 1e-24

#: Words that results lack where they have their defaults.
_LATER = ("headroom_us", "parallel", "combine", "mean_target_ages_s")

#: Curvatures rκ that the weight transform keeps its precision for, in single precision.
CURVES = (0.01, 10.0)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a weight is held by cells.

    A weight w has the normalised value ``u = w/s``, which a number format may round. Its window position ``v = r·u`` is
    held by the conductances of one or more cells, as the mapping says. What they conduct is read back as ``v̂``, and
    counts as the weight ``s·sinh(κv̂)/sinh(rκ)``.

    Attributes:
        mapping: ``offset``, ``offset_reference``, ``differential``, ``differential_symmetric``, ``bit_sliced``, or the
            ``module.NAME`` of one's own (:func:`hwaware.hardware.encoding.import_mapping`).
        scale: what shares one scale ``s = max|w|``: a whole ``tensor``, or each output ``channel``; or ``fixed``, by
            the fractional bits of the format.
        kappa: non-linearity κ = V_read/V_0 of the cell's current; None is a linear cell.
        range_fraction: share r ∈ (0, 1] of the conductance window that weights may use.
        format: which values weights are written as. Where none is given: 8 bits in slices of 2 with the mapping
            ``bit_sliced``, continuous with any other.
        headroom_us: what of the device's window (µS), below and above, no target lies in; cells may still drift into
            it. So the drift that a pair's cells have in common cancels, which the window's end would cut off.
        parallel: K, cells that stand for each cell of a weight, with errors of their own; reference cells likewise.
        combine: what K cells are read as: their ``mean``, or their ``median``.
        mean_target_ages_s: ages (s) at which, on average over them, what weights are expected to be read as is what is
            wanted; conductances are chosen by it (:mod:`hwaware.hardware.encoding.targets`). Empty: cells are to
            conduct what weights stand for.

    Raises:
        UserError: a value can't be, or does not go with another.

    Examples:
        >>> import torch
        >>> encoding = Encoding(mapping="differential", kappa=2.0)
        >>> encoding.window_position(torch.tensor([-0.5, 1.0])).tolist()
        [-0.5, 1.0]
    """

    mapping: str = "differential"
    scale: str = "tensor"
    kappa: float | None = 2.0
    range_fraction: float = 1.0
    format: NumberFormat = None  # type: ignore[assignment]  # until the mapping is known
    headroom_us: tuple[float, ...] = (0.0, 0.0)
    parallel: int = 1
    combine: str = "mean"
    mean_target_ages_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.mapping != BIT_SLICED:
            mapping_of(self.mapping)
        if self.format is None:
            object.__setattr__(self, "format", Codes() if self.mapping == BIT_SLICED else Continuous())
        self._check_format()
        self._check_scale()
        if self.kappa is not None and not 0 < self.kappa < math.inf:
            raise UserError(f"kappa={self.kappa} is not a non-linearity: it must be above 0 (2.0 is usual).")
        if not 0 < self.range_fraction <= 1:
            raise UserError(f"range_fraction={self.range_fraction} must lie in (0, 1]; 1.0 uses the whole window.")
        if self.kappa is not None and not CURVES[0] <= self.curve <= CURVES[1]:
            raise UserError(
                f"kappa={self.kappa} times range_fraction={self.range_fraction} must lie in {list(CURVES)}. "
                "A cell without a curve has kappa linear (null in a device file)."
            )
        self.format.check(self.range_fraction)
        self._check_cells()

    def _check_cells(self) -> None:
        headroom, ages_s = (tuple(map(float, value)) for value in (self.headroom_us, self.mean_target_ages_s))
        object.__setattr__(self, "headroom_us", headroom)
        object.__setattr__(self, "mean_target_ages_s", ages_s)
        if len(headroom) != 2 or not all(0 <= part < math.inf for part in headroom):
            raise UserError(
                f"headroom_us={list(headroom)} must be two numbers of 0 or more, below and above: [5, 2.5]."
            )
        if type(self.parallel) is not int or not 1 <= self.parallel <= MOST_PARALLEL:
            raise UserError(f"parallel={self.parallel} must be a whole number from 1 to {MOST_PARALLEL}.")
        if self.combine not in COMBINATIONS:
            raise UserError(f"combine '{self.combine}' is unknown. {nearest(self.combine, COMBINATIONS)}")
        if self.combine == "median" and self.parallel == 2:
            raise UserError("combine median with parallel=2 is their mean: give 3 cells or more, or combine mean.")
        if ages_s and not isinstance(self.format, Continuous):
            raise UserError(
                f"mean_target_ages_s={list(ages_s)} moves conductances off the steps of format "
                f"{format_words(self.format)}: leave it out, or give the format continuous."
            )

    def _check_format(self) -> None:
        form = self.format
        if self.mapping != BIT_SLICED:
            if isinstance(form, Codes):
                raise UserError(
                    f"format {format_words(form)} is for the mapping 'bit_sliced', not '{self.mapping}': give levels, "
                    "or the format continuous."
                )
            if isinstance(form, Levels) and form.cell_levels is not None:
                levels = levels_of_cells(self.layout, form.cell_levels)
                object.__setattr__(self, "format", Levels(levels, form.cell_levels))
            return
        if not isinstance(form, Codes):
            raise UserError(
                f"format {format_words(form) or form} is not for the mapping 'bit_sliced', which has codes of some "
                "bits: "
                "give {bits: 8, slice_bits: 2}."
            )
        if self.kappa is not None:
            raise UserError(
                f"kappa={self.kappa} is the curve of a whole weight's position, which digits do not have: set kappa "
                "linear (null in a device file) with the mapping 'bit_sliced'."
            )

    def _check_scale(self) -> None:
        fraction_bits = self.format.fraction_bits if isinstance(self.format, Codes) else None
        if self.scale not in SCALE_NAMES:
            raise UserError(f"scale '{self.scale}' is unknown. {nearest(self.scale, SCALE_NAMES)}")
        if self.scale != FixedScale.name:
            if fraction_bits is not None:
                raise UserError(
                    f"fraction_bits={fraction_bits} is for the scale 'fixed', not '{self.scale}': leave it out."
                )
        elif not isinstance(self.format, Codes):
            raise UserError(
                f"scale 'fixed' is for the mapping 'bit_sliced', not '{self.mapping}': give 'tensor' or 'channel'."
            )
        elif fraction_bits is None:
            raise UserError("scale 'fixed' needs fraction_bits in the format (6 of 8 bits are usual), which set it.")

    # What it is.

    @property
    def layout(self) -> Mapping:
        """The mapping's functions."""
        return bit_sliced(self.format) if isinstance(self.format, Codes) else mapping_of(self.mapping)

    @property
    def scaling(self) -> Scale:
        """The scale's policy."""
        if isinstance(self.format, Codes) and self.format.scale is not None:
            return FixedScale(self.format.scale)
        return SCALES[self.scale]

    @property
    def curve(self) -> float:
        """rκ, the curvature of the weight transform; 0 for a linear cell."""
        return self.range_fraction * self.kappa if self.kappa is not None else 0.0

    @property
    def steps(self) -> int:
        """Steps of the format's grid between zero and the largest weight; 0 where weights are continuous."""
        return self.format.steps(self.range_fraction)

    def plain(self) -> dict[str, Any]:
        """All of it as plain types, in the form that recipes have it in."""
        return {
            "mapping": self.mapping,
            "scale": self.scale,
            "kappa": self.kappa,
            "range_fraction": self.range_fraction,
            "format": format_words(self.format),
            "headroom_us": list(self.headroom_us),
            "parallel": self.parallel,
            "combine": self.combine,
            "mean_target_ages_s": list(self.mean_target_ages_s),
        }

    def params(self) -> dict[str, Any]:
        """The same as results have it: flat, without the mapping, which has a column of its own.

        What came later than the first results is there where it is not as usual.
        """
        plain = self.plain()
        usual = {one.name: one.default for one in fields(self)}
        later = {key: plain[key] for key in _LATER if getattr(self, key) != usual[key]}
        # Levels of cells are another way of giving those of weights.
        form = {"levels": self.format.levels} if isinstance(self.format, Levels) else plain["format"]
        return {key: plain[key] for key in ("scale", "kappa", "range_fraction")} | form | later

    def __str__(self) -> str:
        if isinstance(self.format, Levels):
            return f"{self.mapping}, {self.format} ({cell_levels(self.layout, self.format.levels)} of a cell)"
        return self.mapping if isinstance(self.format, Continuous) else f"{self.mapping}, {self.format}"

    # From weights to window positions.

    def written(self, u: Tensor) -> Tensor:
        """Normalised latent weights ``u ∈ [-1, 1]`` as they can be written.

        With a fixed scale u may lie beyond, and is clipped.
        """
        return quantise(u, self.steps, self.format.is_fixed_point) if self.steps else u

    def window_position(self, u: Tensor) -> Tensor:
        """Window positions ``v`` that normalised latent weights ``u ∈ [-1, 1]`` are written to."""
        return self.written(u) * self.range_fraction

    def effective(self, latent: Tensor) -> Tensor:
        """Exact effective weights ``s·sinh(rκu)/sinh(rκ)``, u as written; fp32, detached."""
        latent = latent.detach()
        if not self.curve and not self.steps:
            return latent.to(torch.float32, copy=True)
        s = self.scaling.of(latent)
        return curve.effective(self.written(normalised(latent.float(), s)), self.curve) * s

    def unrounded(self, latent: Tensor) -> Tensor:
        """The same before the format rounds them."""
        latent = latent.detach()
        if not self.curve:
            return latent.to(torch.float32, copy=True)
        s = self.scaling.of(latent)
        return curve.effective(normalised(latent.float(), s), self.curve) * s

    def latent(self, weight: Tensor) -> Tensor:
        """Latent weights whose effective ones are ``weight``, or as near as the format has them; fp32."""
        if self.format.is_fixed_point:
            return weight if self.scaling.fixed is not None else self._lift_largest(weight)
        s = self.scaling.of(weight)
        return curve.latent(normalised(weight.float(), s), self.curve) * s

    def _lift_largest(self, weight: Tensor) -> Tensor:
        """Where ``s = max|w|`` is positive, it has no code, and the next one below is to be what it is now.

        So the effective weights of a network, stored and converted again, are what they were.
        """
        rows = weight.flatten(1) if self.scaling.per_channel else weight.flatten()[None]
        low, high = torch.aminmax(rows, dim=1, keepdim=True)
        lifted = high * (self.steps / (self.steps - 1))
        return torch.where((rows == high) & (lifted > -low), lifted, rows).view_as(weight)

    @property
    def predistorts(self) -> bool:
        """Whether latent weights differ from effective ones."""
        return bool(self.curve) or self.format.is_fixed_point

    def clipped(self, weight: Tensor) -> int:
        """How many weights lie beyond a fixed scale."""
        return 0 if self.scaling.fixed is None else int((weight.abs() > self.scaling.fixed).sum())

    # From window positions to conductances, and back.

    def check_device(self, device: Device) -> None:
        """Raises UserError where a device's window is too narrow for the headroom, or its law not for an age."""
        low, high = self.headroom_us
        width = device.g_max_us - device.g_min_us
        if low + high >= width:
            raise UserError(
                f"headroom_us={[low, high]} takes {low + high:g} µS of the window of device '{device.name}', which is "
                f"{width:g} µS wide: nothing is left for weights."
            )
        for age_s in self.mean_target_ages_s:
            device.check_law(age_s)

    def window_us(self, device: Device) -> tuple[float, float]:
        """The part of a device's window (µS) that targets lie in: all of it but the headroom."""
        low, high = self.headroom_us
        return device.g_min_us + low, device.g_max_us - high

    def reference_us(self, device: Device) -> float:
        """Target (µS) of reference cells: that of the window position 0."""
        low, high = self.window_us(device)
        return (low + high) / 2

    @property
    def cells_per_weight(self) -> int:
        """Memory cells for one weight, parallel ones included, without the reference's."""
        return self.layout.cells_per_weight * self.parallel

    def encode(self, device: Device, v: Tensor) -> tuple[Tensor, ...]:
        """Target conductances (µS) of window positions, one tensor of their shape for each cell of a weight.

        Cells in parallel have the same target, which is given once.
        """
        if self.mean_target_ages_s:
            v = targets.looked_up(_mean_targets(self, device), v)
        return self.layout.encode(v, *self.window_us(device))

    def position(self, device: Device, targets_us: tuple[Tensor, ...]) -> Tensor:
        """Window positions that target conductances (µS) stand for: the reverse of :meth:`encode`."""
        v = self.decode(device, targets_us)
        if not self.mean_target_ages_s:
            return v
        return targets.reverse_looked_up(_mean_targets(self, device), v).to(v)

    def written_positions(self, device: Device) -> Tensor | None:
        """Positions that are written for even ones of [-1, 1], float64, linear in between; None where they are those.

        They differ with ``mean_target_ages_s`` alone.
        """
        return _mean_targets(self, device) if self.mean_target_ages_s else None

    def merged(self, cells: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What cells in parallel are read as together.

        Args:
            cells: what each conducts: first all that stand for a weight's first cell, then all for its second, ….
        """
        return merged(cells, self.parallel, self.combine)

    def decode(self, device: Device, cells: tuple[Tensor, ...]) -> Tensor:
        """Window positions from what cells conduct (µS), parallel ones :meth:`merged`; then the reference's, if any."""
        return self.layout.decode(cells, *self.window_us(device))

    def realised(self, v: Tensor) -> Tensor:
        """Normalised weights that window positions count as: ``sinh(κv)/sinh(rκ)``. May overwrite ``v``."""
        return curve.realised(v, self.kappa, self.range_fraction)

    def moments(
        self, device: Device, u: Tensor, age_s: float, read_noise: bool = True, reference_noise: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of ``(ŵ - w_eff)/s`` for normalised latent weights ``u ∈ [-1, 1]``.

        ``w_eff`` is what is written. Exact through the cell's curve, but for the shape of a median's density;
        differentiable in ``u``, but not where cells hold digits.

        Args:
            device: the physics of a cell.
            u: any shape; float64 is advisable.
            age_s: age (s).
            read_noise: whether a single read's noise is included (never at age 0).
            reference_noise: whether the spread of reference cells is, which a row of a crossbar has in common; what
                they are on average always is.
        """
        u = u.detach() if self.format.is_fixed_point else u
        v = self.window_position(u)
        mean, variance = self._realised_moments(device, self.encode(device, v), age_s, read_noise, reference_noise)
        return mean - curve.effective(v / self.range_fraction, self.curve), variance.clamp(min=_SMALLEST_ERROR).sqrt()

    def mean_error(self, device: Device, u: Tensor, age_s: float) -> Tensor:
        """The first of :meth:`moments`, without read noise, of any number of weights: looked up, linear in between."""
        even = torch.linspace(-1, 1, targets.SIZE, dtype=torch.float64)
        mean, _ = self.moments(device, even, age_s, read_noise=False)
        return targets.looked_up(mean.to(u.device), self.written(u))  # between codes there is nothing

    def reference_std(self, device: Device, age_s: float) -> float:
        """Standard deviation of window positions by a reference cell's error at an age (s); 0 without reference."""
        if not self.layout.reference:
            return 0.0
        low, high = self.window_us(device)
        _, std = self._read_moments(device, torch.tensor([self.reference_us(device)]).double(), age_s, True)
        return abs(self.layout.gains[-1]) * std.item() / (high - low)

    def _realised_moments(
        self,
        device: Device,
        cells: tuple[Tensor, ...],
        age_s: float,
        read_noise: bool,
        reference_noise: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of ``ŵ/s`` for working cells with these targets.

        ``ŵ/s`` is a sinh of the position v̂ that they are read as, which is linear in what each of them conducts, and
        they are independent: with ``M(p) = E exp(pκv̂)``, a product over cells, the mean is
        ``(M(1) - M(-1)) / (2 sinh rκ)``, and of the square ``(M(2) + M(-2) - 2) / (4 sinh² rκ)``.
        """
        if self.kappa is None:
            mean, std = self._position_moments(device, cells, age_s, read_noise, reference_noise)
            return mean / self.range_fraction, (std / self.range_fraction).square()
        cells = self._against(device, cells)
        written = self.decode(device, cells)

        def exponential(power: int) -> Tensor:
            assert self.kappa is not None  # for the type checker
            found = (power * self.kappa * written).exp()
            own = self.layout.cells_per_weight if not reference_noise else len(cells)
            for g, gain in zip(cells[:own], self.layout.gains[:own], strict=True):
                found = found * self._cell_exponential(device, g, age_s, power * self.kappa * gain, read_noise)
            for g, gain in zip(cells[own:], self.layout.gains[own:], strict=True):
                mean, _ = self._read_moments(device, g, age_s, read_noise)
                found = found * (power * self.kappa * gain / width * (mean - g)).exp()
            return found

        low, high = self.window_us(device)
        width, height = high - low, math.sinh(self.curve)
        mean = (exponential(1) - exponential(-1)) / (2 * height)
        square = (exponential(2) + exponential(-2) - 2) / (4 * height**2)
        return mean, square - mean.square()

    def _cell_exponential(self, device: Device, g_us: Tensor, age_s: float, rate: float, read_noise: bool) -> Tensor:
        """``E exp(rate·(G - g)/width)`` of what cells in parallel with one target are read as."""
        low, high = self.window_us(device)
        rate = rate / (high - low)
        if self.combine == "mean" or self.parallel == 1:
            return device.cell_exponential(g_us, age_s, rate / self.parallel, read_noise) ** self.parallel
        mean, std = self._read_moments(device, g_us, age_s, read_noise)
        return (rate * (mean - g_us) + (rate * std).square() / 2).exp()

    def _against(self, device: Device, cells: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Targets of a weight's own cells, and of those that they are read against."""
        return (*cells, torch.full_like(cells[0], self.reference_us(device))) if self.layout.reference else cells

    def _read_moments(self, device: Device, g_us: Tensor, age_s: float, read_noise: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (µS) of what cells in parallel with one target are read as."""
        shrink = remaining_std(self.parallel, self.combine)
        if self.combine == "median":
            return device.median_moments(g_us, age_s, shrink, read_noise)
        mean, std = device.cell_moments(g_us, age_s, read_noise)
        return mean, std * shrink

    def _position_moments(
        self, device: Device, cells: tuple[Tensor, ...], age_s: float, read_noise: bool, reference_noise: bool
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the window position that working cells with these targets are read as."""
        moments = [self._read_moments(device, g, age_s, read_noise) for g in self._against(device, cells)]
        mean = self.decode(device, tuple(mean for mean, _ in moments))
        spreading = moments if reference_noise else moments[: self.layout.cells_per_weight]
        variances = (std * std * gain**2 for (_, std), gain in zip(spreading, self.layout.gains, strict=False))
        variance = sum(variances, start=torch.zeros_like(mean))
        low, high = self.window_us(device)
        return mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt() * (1 / (high - low))

    def expected(self, device: Device, cells: tuple[Tensor, ...], age_s: float) -> Tensor:
        """Mean of ``ŵ/s`` for target conductances (µS) at an age (s), without read noise."""
        return self._realised_moments(device, cells, age_s, read_noise=False)[0]

    def with_slope(self, of_u: Callable[[Tensor], Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
        """Values of a function of u, and its derivative.

        Codes have no derivative: half the difference between a code's two neighbours, over the distance of two codes,
        stands for it.
        """
        if self.format.is_fixed_point:
            step = 1 / self.steps
            return of_u(u), (of_u(u + step) - of_u(u - step)) / (2 * step)
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            value = of_u(u)
            (slope,) = torch.autograd.grad(value.sum(), u)
        return value.detach(), slope


@lru_cache(maxsize=64)
def _mean_targets(encoding: Encoding, device: Device) -> Tensor:
    """For even window positions those to write, so that on average over the ages they are read as wanted."""
    ages_s = encoding.mean_target_ages_s

    def expected(v: Tensor) -> Tensor:
        cells = encoding.layout.encode(v, *encoding.window_us(device))
        return sum((encoding.expected(device, cells, age_s) for age_s in ages_s), start=0.0 * v) / len(ages_s)

    return targets.inverse(expected, lambda v: encoding.realised(v.clone()))
