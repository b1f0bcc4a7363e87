"""The periphery of an array: DACs at its inputs, the I-V curve of the voltage, noise and ADCs at its outputs.

A layer's input x becomes voltages ``V = r·V_max·x/x_max``. The column currents are converted back and divided by r:

* the DAC spans ±r·V_max with ``2^bits - 1`` evenly spaced levels that include zero: x is rounded, and clipped at
  ±x_max;
* a cell's current is ``sinh(κV/V_max)/κ`` rather than linear in the voltage, with κ = V_max/V_0 (``input_kappa``), so
  that the layer computes ``y = Σ ŵ·sinh(rκ·x/x_max)·x_max/(rκ)``. Unlike a curve in the cell's state, which is the
  encoding's ``kappa``, it can't be pre-distorted in the weights: shrinking the range r makes it straighter;
* the full scale of an output's current does not depend on r: it is y_max at r = 1. Noise and ADC step are fractions of
  that full scale, so they grow as 1/r in the units of y: ``σ = output_noise·y_max/r``, and a step of
  ``y_max/(r·(2^(bits - 1) - 1))``, clipped at ±y_max/r.

Where an output's inputs are spread over several arrays (:mod:`hwaware.hardware.crossbar.tiling`), each partial sum is
read by its own ADC, and the results are added digitally. The digits of ``bit_sliced`` weights and the slices of the
inputs' bits (``dac_slice_bits``) are also converted one by one, then shifted and added.

x_max and y_max are percentiles of ``|x|`` and of the arrays' ``|y|`` before the bias. They are measured on calibration
samples with exact converters, once per layer or once per array (``per_array``). Training may adapt them further
(:class:`hwaware.training.RangeLearning`).

The input curve is the I-V curve of the Stanford/ASU ReRAM model, ``I ∝ sinh(V/V_0)``. Together with the shrunk range it
is a reconstruction of arXiv 2606.17471, whose text is not public.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from hwaware.errors import UserError
from hwaware.hardware.encoding.encoding import CURVES


class Ranges(NamedTuple):
    """Full scales of one layer: ``x_max`` of its inputs and ``y_max`` of its arrays' outputs, in their own units.

    A single number holds for all arrays of the layer. A list has one number for each of the arrays that the inputs of
    an output are split over, in order.
    """

    x_max: float | tuple[float, ...]
    y_max: float | tuple[float, ...]

    @classmethod
    def of(cls, x_max: float | Sequence[float], y_max: float | Sequence[float]) -> Ranges:
        """Builds ranges from the plain types that files store."""
        return cls(*(tuple(limit) if isinstance(limit, Sequence) else limit for limit in (x_max, y_max)))

    def plain(self) -> list[float | list[float]]:
        """The reverse."""
        return [list(limit) if isinstance(limit, tuple) else limit for limit in self]


@dataclass(frozen=True, kw_only=True)
class Converters:
    """Converters of all analog layers; see the module. Gradients pass straight through the rounding, not the clipping.

    Attributes:
        dac_bits, adc_bits: resolution of inputs and outputs, sign included; None: exact.
        percentile: percentile of the magnitudes that the ranges are set to.
        samples: number of calibration samples for measuring the ranges.
        input_kappa: κ of the I-V curve in the voltage; None: the current is linear in the voltage.
        input_range: r, the fraction of the voltage range in use.
        output_noise: standard deviation of the output noise over the full scale, in training and on chips.
        dac_slice_bits: input bits that drive the rows at a time. Slices are read one after the other, then shifted and
            added digitally. None: all bits at once.
        per_array: whether each array has its own ranges; otherwise all arrays of a layer share them.

    Raises:
        UserError: a value is out of range, or does not go with another.

    Examples:
        >>> Converters(dac_bits=8, adc_bits=6).adc_bits
        6
    """

    dac_bits: int | None = None
    adc_bits: int | None = None
    percentile: float = 99.9
    samples: int = 256
    input_kappa: float | None = None
    input_range: float = 1.0
    output_noise: float = 0.0
    dac_slice_bits: int | None = None
    per_array: bool = False

    def __post_init__(self) -> None:
        for field in ("dac_bits", "adc_bits"):
            bits = getattr(self, field)
            if bits is not None and (not isinstance(bits, int) or not 2 <= bits <= 16):
                raise UserError(f"converters: {field}={bits} must be a whole number in [2, 16]; null is exact.")
        if self.dac_slice_bits is not None:
            self._check_slices(self.dac_slice_bits)
        if not 50 < self.percentile <= 100:
            raise UserError(f"converters: percentile={self.percentile} must lie in (50, 100]; 99.9 is usual.")
        if self.samples < 1:
            raise UserError(f"converters: samples={self.samples} must be at least 1.")
        if not 0 < self.input_range <= 1:
            raise UserError(f"converters: input_range={self.input_range} must lie in (0, 1]; 1.0 is the whole range.")
        if not 0 <= self.output_noise < math.inf:
            raise UserError(
                f"converters: output_noise={self.output_noise} must be 0 or more, as a fraction of full scale."
            )
        if self.input_kappa is not None and not CURVES[0] <= self.input_range * self.input_kappa <= CURVES[1]:
            raise UserError(
                f"converters: input_kappa={self.input_kappa} times input_range={self.input_range} must lie in "
                f"{list(CURVES)}; null is a linear cell."
            )
        costly = self.adc_bits is not None or self.output_noise > 0
        if self.input_range < 1 and not costly:
            raise UserError("converters: a narrow input_range has no cost without adc_bits or output_noise: set one.")
        if not costly and self.dac_bits is None and self.input_kappa is None:
            raise UserError("converters: nothing is converted: set dac_bits or adc_bits, or leave converters null.")

    @property
    def input_slices(self) -> int:
        """Number of slices that an input's bits (without the sign) are driven in, one after the other."""
        if self.dac_slice_bits is None or self.dac_bits is None:
            return 1
        return -(-(self.dac_bits - 1) // self.dac_slice_bits)

    def _check_slices(self, bits: int) -> None:
        if self.dac_bits is None:
            raise UserError(f"converters: dac_slice_bits={bits} needs dac_bits: set them (8 is usual).")
        if not isinstance(bits, int) or not 1 <= bits < self.dac_bits:
            raise UserError(
                f"converters: dac_slice_bits={bits} must be a whole number from 1 to {self.dac_bits - 1}, the bits of "
                "a magnitude."
            )
        if self.input_kappa is not None:
            raise UserError(
                f"converters: input_kappa={self.input_kappa} acts on a whole input, but dac_slice_bits={bits} splits "
                "it: leave one of the two out."
            )

    def settings(self) -> dict[str, Any]:
        """The settings that differ from their defaults, as plain types."""
        return {name: value for name, value in asdict(self).items() if value is not None and value is not False}
