"""How memory cells hold a weight, and how it is read back."""

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

#: Most cells in parallel; with more, only the errors that all cells share would be left.
MOST_PARALLEL = 4096

#: Smallest variance of ``ŵ/s``; keeps the gradient of the square root finite.
_SMALLEST_ERROR = 1e-24

#: Settings that results leave out at their defaults.
_LATER = ("headroom_us", "parallel", "combine", "mean_target_ages_s")

#: Range of curvatures rκ for which the weight transform is accurate in single precision.
CURVES = (0.01, 10.0)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How cells hold a weight.

    A weight w has the normalised value ``u = w/s``, which a number format may round. The mapping turns its window
    position ``v = r·u`` into the conductances of one or more cells. These are read back as ``v̂``, which realises the
    weight ``ŵ = s·sinh(κv̂)/sinh(rκ)``.

    Attributes:
        mapping: ``offset``, ``offset_reference``, ``differential``, ``differential_symmetric``, ``bit_sliced``, or the
            ``module.NAME`` of a custom mapping (:func:`hwaware.hardware.encoding.import_mapping`).
        scale: the weights that share one scale ``s = max|w|``: a whole ``tensor`` or each output ``channel``; or
            ``fixed``, set by the fractional bits of the format.
        kappa: non-linearity κ = V_read/V_0 of the cell's I-V curve; None: a linear cell.
        range_fraction: fraction r ∈ (0, 1] of the conductance window that weights use.
        format: number format of the weights. Default: 8 bits in slices of 2 for the mapping ``bit_sliced``, continuous
            for all others.
        headroom_us: margins (µS) at the lower and upper end of the device's window that contain no targets. Cells may
            drift into them, so that the common drift of a pair cancels instead of being clipped.
        parallel: K, the number of cells in parallel for each cell of a weight, each with its own errors; also for
            reference cells.
        combine: how K cells are read: as their ``mean`` or their ``median``.
        mean_target_ages_s: ages (s) over which the expected weight equals the wanted one on average; targets are
            chosen for this (:mod:`hwaware.hardware.encoding.targets`). Empty: targets are not corrected for drift.

    Raises:
        UserError: a value is out of range, or does not go with another.

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
            raise UserError(f"kappa={self.kappa} must be above 0 (2.0 is usual).")
        if not 0 < self.range_fraction <= 1:
            raise UserError(f"range_fraction={self.range_fraction} must lie in (0, 1]; 1.0 uses the whole window.")
        if self.kappa is not None and not CURVES[0] <= self.curve <= CURVES[1]:
            raise UserError(
                f"kappa={self.kappa} times range_fraction={self.range_fraction} must lie in {list(CURVES)}. "
                "Set kappa linear (null in a device file) for a linear cell."
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
                f"mean_target_ages_s={list(ages_s)} moves targets off the grid of format "
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
                f"kappa={self.kappa} acts on the position of a whole weight, not on single digits: set kappa "
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

    # Properties.

    @property
    def layout(self) -> Mapping:
        """The mapping."""
        return bit_sliced(self.format) if isinstance(self.format, Codes) else mapping_of(self.mapping)

    @property
    def scaling(self) -> Scale:
        """The scale policy."""
        if isinstance(self.format, Codes) and self.format.scale is not None:
            return FixedScale(self.format.scale)
        return SCALES[self.scale]

    @property
    def curve(self) -> float:
        """rκ, the curvature of the weight transform; 0 for a linear cell."""
        return self.range_fraction * self.kappa if self.kappa is not None else 0.0

    @property
    def steps(self) -> int:
        """Grid steps of the format between zero and the largest weight; 0 for continuous weights."""
        return self.format.steps(self.range_fraction)

    def plain(self) -> dict[str, Any]:
        """All settings as plain types, in the form of a recipe."""
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
        """The settings as results store them: flat, without the mapping, which has its own column.

        Settings that were added after the first results appear only if they differ from the default.
        """
        plain = self.plain()
        usual = {one.name: one.default for one in fields(self)}
        later = {key: plain[key] for key in _LATER if getattr(self, key) != usual[key]}
        # Levels of cells are another way to state levels of weights.
        form = {"levels": self.format.levels} if isinstance(self.format, Levels) else plain["format"]
        return {key: plain[key] for key in ("scale", "kappa", "range_fraction")} | form | later

    def __str__(self) -> str:
        if isinstance(self.format, Levels):
            return f"{self.mapping}, {self.format} ({cell_levels(self.layout, self.format.levels)} of a cell)"
        return self.mapping if isinstance(self.format, Continuous) else f"{self.mapping}, {self.format}"

    # From weights to window positions.

    def written(self, u: Tensor) -> Tensor:
        """Rounds normalised latent weights ``u ∈ [-1, 1]`` to the number format.

        With a fixed scale, u may lie outside and is clipped.
        """
        return quantise(u, self.steps, self.format.is_fixed_point) if self.steps else u

    def window_position(self, u: Tensor) -> Tensor:
        """Window positions ``v`` of normalised latent weights ``u ∈ [-1, 1]``, rounded to the number format."""
        return self.written(u) * self.range_fraction

    def effective(self, latent: Tensor) -> Tensor:
        """Exact effective weights ``s·sinh(rκu)/sinh(rκ)``, with u rounded to the format; fp32, detached."""
        latent = latent.detach()
        if not self.curve and not self.steps:
            return latent.to(torch.float32, copy=True)
        s = self.scaling.of(latent)
        return curve.effective(self.written(normalised(latent.float(), s)), self.curve) * s

    def unrounded(self, latent: Tensor) -> Tensor:
        """The same without rounding to the number format."""
        latent = latent.detach()
        if not self.curve:
            return latent.to(torch.float32, copy=True)
        s = self.scaling.of(latent)
        return curve.effective(normalised(latent.float(), s), self.curve) * s

    def latent(self, weight: Tensor) -> Tensor:
        """Latent weights for the effective weights ``weight``, or for the nearest in the number format; fp32."""
        if self.format.is_fixed_point:
            return weight if self.scaling.fixed is not None else self._lift_largest(weight)
        s = self.scaling.of(weight)
        return curve.latent(normalised(weight.float(), s), self.curve) * s

    def _lift_largest(self, weight: Tensor) -> Tensor:
        """Rescales so that the next code below +s keeps its value, since a positive ``s = max|w|`` has no code.

        So effective weights that are stored and converted again stay the same.
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
        """Number of weights outside a fixed scale."""
        return 0 if self.scaling.fixed is None else int((weight.abs() > self.scaling.fixed).sum())

    # From window positions to conductances, and back.

    def check_device(self, device: Device) -> None:
        """Raises UserError if a device's window is too narrow for the headroom, or its law does not cover an age."""
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
        """The part of a device's window (µS) that contains the targets: the window without the headroom."""
        low, high = self.headroom_us
        return device.g_min_us + low, device.g_max_us - high

    def reference_us(self, device: Device) -> float:
        """Target (µS) of reference cells: that of the window position 0."""
        low, high = self.window_us(device)
        return (low + high) / 2

    @property
    def cells_per_weight(self) -> int:
        """Memory cells for one weight, parallel cells included, reference cells not."""
        return self.layout.cells_per_weight * self.parallel

    def encode(self, device: Device, v: Tensor) -> tuple[Tensor, ...]:
        """Target conductances (µS) of window positions ``v``: one tensor of the same shape per cell of a weight.

        Parallel cells share a target, which is returned once.
        """
        if self.mean_target_ages_s:
            v = targets.looked_up(_mean_targets(self, device), v)
        return self.layout.encode(v, *self.window_us(device))

    def position(self, device: Device, targets_us: tuple[Tensor, ...]) -> Tensor:
        """Window positions of target conductances (µS): the inverse of :meth:`encode`."""
        v = self.decode(device, targets_us)
        if not self.mean_target_ages_s:
            return v
        return targets.reverse_looked_up(_mean_targets(self, device), v).to(v)

    def written_positions(self, device: Device) -> Tensor | None:
        """Table of the positions to write for evenly spaced positions on [-1, 1], float64; None if they are the same.

        They differ only with ``mean_target_ages_s``. Values in between are interpolated linearly.
        """
        return _mean_targets(self, device) if self.mean_target_ages_s else None

    def merged(self, cells: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Combines parallel cells.

        Args:
            cells: conductances (µS): first all parallel cells of a weight's first cell, then those of its second, ….
        """
        return merged(cells, self.parallel, self.combine)

    def decode(self, device: Device, cells: tuple[Tensor, ...]) -> Tensor:
        """Window positions from the conductances (µS) of :meth:`merged` cells; the reference's come last, if any."""
        return self.layout.decode(cells, *self.window_us(device))

    def realised(self, v: Tensor) -> Tensor:
        """Normalised weights of window positions: ``sinh(κv)/sinh(rκ)``. May overwrite ``v``."""
        return curve.realised(v, self.kappa, self.range_fraction)

    def moments(
        self, device: Device, u: Tensor, age_s: float, read_noise: bool = True, reference_noise: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of ``(ŵ - w_eff)/s`` for normalised latent weights ``u ∈ [-1, 1]``.

        ``w_eff`` is the effective weight after rounding. The moments are exact through the sinh curve, except for the
        shape of a median's density. They are differentiable in ``u`` unless cells hold digits.

        Args:
            device: the physics of a cell.
            u: any shape; float64 is advisable.
            age_s: age (s).
            read_noise: whether to include the noise of a single read (never at age 0).
            reference_noise: whether to include the spread of the reference cells, which all weights of a row share.
                Their mean is always included.
        """
        u = u.detach() if self.format.is_fixed_point else u
        v = self.window_position(u)
        mean, variance = self._realised_moments(device, self.encode(device, v), age_s, read_noise, reference_noise)
        return mean - curve.effective(v / self.range_fraction, self.curve), variance.clamp(min=_SMALLEST_ERROR).sqrt()

    def mean_error(self, device: Device, u: Tensor, age_s: float) -> Tensor:
        """The mean of :meth:`moments` without read noise, by linear interpolation in a table; for many weights."""
        even = torch.linspace(-1, 1, targets.SIZE, dtype=torch.float64)
        mean, _ = self.moments(device, even, age_s, read_noise=False)
        return targets.looked_up(
            mean.to(u.device), self.written(u)
        )  # rounded, since there are no weights between codes

    def reference_std(self, device: Device, age_s: float) -> float:
        """Standard deviation of window positions from a reference cell's error at an age (s); 0 without reference."""
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
        """Mean and variance of ``ŵ/s`` for cells with these targets that are not stuck.

        ``ŵ/s`` is a sinh of the position v̂, which is linear in the conductances of independent cells. With
        ``M(p) = E exp(pκv̂)``, a product over cells, the mean is ``(M(1) - M(-1)) / (2 sinh rκ)`` and the mean square
        is ``(M(2) + M(-2) - 2) / (4 sinh² rκ)``.
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
        """``E exp(rate·(G - g)/width)`` of parallel cells with one target, combined."""
        low, high = self.window_us(device)
        rate = rate / (high - low)
        if self.combine == "mean" or self.parallel == 1:
            return device.cell_exponential(g_us, age_s, rate / self.parallel, read_noise) ** self.parallel
        mean, std = self._read_moments(device, g_us, age_s, read_noise)
        return (rate * (mean - g_us) + (rate * std).square() / 2).exp()

    def _against(self, device: Device, cells: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Targets of a weight's cells, followed by the target of the reference cells if there are any."""
        return (*cells, torch.full_like(cells[0], self.reference_us(device))) if self.layout.reference else cells

    def _read_moments(self, device: Device, g_us: Tensor, age_s: float, read_noise: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (µS) of parallel cells with one target, combined."""
        shrink = remaining_std(self.parallel, self.combine)
        if self.combine == "median":
            return device.median_moments(g_us, age_s, shrink, read_noise)
        mean, std = device.cell_moments(g_us, age_s, read_noise)
        return mean, std * shrink

    def _position_moments(
        self, device: Device, cells: tuple[Tensor, ...], age_s: float, read_noise: bool, reference_noise: bool
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the decoded window position, for cells that are not stuck."""
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

        Codes have no derivative. The central difference between a code's two neighbours is used instead.
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
    """Table of the window positions to write, so that on average over the ages the wanted ones are read."""
    ages_s = encoding.mean_target_ages_s

    def expected(v: Tensor) -> Tensor:
        cells = encoding.layout.encode(v, *encoding.window_us(device))
        return sum((encoding.expected(device, cells, age_s) for age_s in ages_s), start=0.0 * v) / len(ages_s)

    return targets.inverse(expected, lambda v: encoding.realised(v.clone()))
