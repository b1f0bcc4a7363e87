"""Analog layers: digital layers whose weight lives in conductances.

An analog layer is its digital class with another ``forward``: same parameters, ``state_dict`` keys and hooks. Its
``weight`` parameter holds the *latent* weights; what multiplies the input is, in this order of precedence, the weights
that a chip has installed, the latents realised with training noise (in training mode, where noise is installed), or
the exact effective weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Converters, Hardware, Ranges
from hwaware.nn.faults import apply_stuck_cells
from hwaware.nn.reference import add_reference_noise
from hwaware.nn.repaired import repair_largest_errors
from hwaware.nn.weights.fused import realise
from hwaware.nn.weights.tables import ErrorTable, NoiseTable


class AnalogLayer(nn.Module):
    """What all analog layers share; mixed into a digital class by :func:`hwaware.nn.convert`.

    Attributes:
        hardware: what holds the weights.
        groups: of a convolution; 1 otherwise.
        noise: of the weights in training mode; None: exact.
        error: expected of the weights, for the retention loss; None: off.
        stuck_cells: whether training noise also draws the device's stuck cells.
        repaired: share of the weights, those with the largest errors, that training noise leaves out.
        weight_error: ``Σ E[(ŵ - w_eff)²] / Σ w_eff²`` of the last training forward; None where ``error`` is.
        ranges: that the crossbars' converters span; kept by a layer that is made digital, and taken up again.
    """

    digital_class: ClassVar[type[nn.Module]]
    channel_dim: ClassVar[int]  #: of the output, from its end: a batch may lack

    weight: Tensor
    bias: Tensor | None
    training: bool
    hardware: Hardware
    groups: int = 1
    noise: NoiseTable | None = None
    error: ErrorTable | None = None
    weight_error: Tensor | None = None
    stuck_cells: bool = False
    repaired: float = 0.0
    ranges: Ranges | None = None
    _exact_signals: bool = False
    _installed: Tensor | None = None
    _beside: Callable[[Tensor, Tensor], Tensor] | None = None
    _output_draws: torch.Generator | None = None

    @property
    def converters(self) -> Converters | None:
        """About the crossbars; None: inputs and outputs are exact."""
        return None if self._exact_signals else self.hardware.crossbar.converters

    def forward(self, input: Tensor) -> Tensor:
        converters = self.converters
        if converters is None:
            return self.apply_weight(input, self.realised_weight(), self.bias)
        output = self._converted(input, converters)
        if self._beside is not None:
            output = self._beside(input, output)
        return self.with_bias(output)

    def _converted(self, input: Tensor, converters: Converters) -> Tensor:
        """The crossbars' outputs by way of the converters, without bias."""
        if self.ranges is None:
            raise UserError("a layer has converters, but no ranges: calibrate(model, predict, batches).")
        driven = converters.inputs(input, self.ranges.x_max)
        noisy = self.training or self._output_draws is not None
        output = self.apply_weight(driven, self.realised_weight())
        return converters.outputs(output, self.ranges.y_max, noisy, self._output_draws)

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the layer computes with any other weights: same stride, padding and groups, any number of rows."""
        raise NotImplementedError

    def with_bias(self, output: Tensor) -> Tensor:
        """An output of the layer's weights, and its bias."""
        return output if self.bias is None else output + self.along_channels(self.bias, output).to(output.dtype)

    def without_bias(self, output: Tensor) -> Tensor:
        """The reverse."""
        return output if self.bias is None else output - self.along_channels(self.bias.detach(), output).to(output)

    def along_channels(self, values: Tensor, output: Tensor) -> Tensor:
        """Values ``[C_out]`` as a view that broadcasts over an output of the layer."""
        shape = [1] * output.ndim
        shape[self.channel_dim] = -1
        return values.view(shape)

    def realised_weight(self) -> Tensor:
        """The weights of one forward pass, of the latents' shape; fp32 unless a chip installed otherwise."""
        if self._installed is not None:
            return self._installed
        noise, error = (self.noise, self.error) if self.training else (None, None)
        weight, self.weight_error = self.realise(noise, error)
        if noise is not None and noise.reference_std:
            about = self.weight_scale(), self.hardware, self.groups, noise.reference_std
            weight = add_reference_noise(weight, self.weight, *about)
        written = weight
        if noise is not None and self.stuck_cells:
            weight = apply_stuck_cells(weight, self.weight, self.weight_scale(), self.hardware)
        if noise is not None and self.repaired:
            weight = repair_largest_errors(weight, written, self.weight, self.hardware, self.repaired)
        # Outside autocast the layer computes in its parameters' own precision, as the digital one does.
        return weight if torch.is_autocast_enabled(weight.device.type) else weight.to(self.weight.dtype)

    def realise(self, noise: NoiseTable | None, error: ErrorTable | None) -> tuple[Tensor, Tensor | None]:
        """:func:`hwaware.nn.weights.fused.realise` of the latents."""
        weight: Any = self.weight
        if hasattr(weight, "full_tensor"):  # FSDP2's shard, outside of forward; the scale is of all shards
            weight = weight.full_tensor()
        return realise(weight, self.hardware.encoding, noise, error)

    @torch.no_grad()
    def weight_scale(self) -> Tensor:
        """Scale s of the latents in fp32: 0-dim, or ``[C_out, 1, …]`` per output channel."""
        return self.hardware.encoding.scaling.of(self.weight.detach())

    @torch.no_grad()
    def effective_weight(self) -> Tensor:
        """Exact effective weights ``w_eff = s·sinh(rκu)/sinh(rκ)``, u as written; the parameter's dtype, detached."""
        return self.hardware.encoding.effective(self.weight).to(self.weight.dtype)

    @torch.no_grad()
    def set_effective_weight(self, weight: Tensor) -> None:
        """Sets the latents so that the effective weights are ``weight``, or on the levels or codes next to it."""
        self.weight.copy_(weight)  # rounded as the parameter is
        self.weight.copy_(self.hardware.encoding.latent(self.weight))

    @property
    def n_cells(self) -> int:
        """Memory cells that hold the weights, reference columns included."""
        return self.hardware.n_cells(tuple(self.weight.shape), self.groups)


class AnalogLinear(AnalogLayer, nn.Linear):
    """:class:`torch.nn.Linear` on crossbars."""

    bias: Tensor | None  # type: ignore[assignment]  # torch's types know no Linear without one
    digital_class = nn.Linear
    channel_dim = -1

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(input, weight, bias)


class AnalogConv2d(AnalogLayer, nn.Conv2d):
    """:class:`torch.nn.Conv2d` (any stride, padding mode, dilation, groups) on crossbars."""

    digital_class = nn.Conv2d
    channel_dim = -3

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._conv_forward(input, weight, bias)


#: Digital class -> analog class. Exact types only: a subclass may compute something else with its weight.
ANALOG_CLASSES: dict[type[nn.Module], type[AnalogLayer]] = {}


def register_analog(cls: type[AnalogLayer]) -> type[AnalogLayer]:
    """Makes :func:`hwaware.nn.convert` swap ``cls.digital_class`` for ``cls``; usable as a decorator."""
    ANALOG_CLASSES[cls.digital_class] = cls
    return cls


register_analog(AnalogLinear)
register_analog(AnalogConv2d)
