"""Analog layers: digital layers whose weights are held by conductances.

An analog layer is its digital class with another ``forward``: same parameters, ``state_dict`` keys and hooks. Its
``weight`` parameter holds the *latent* weights in the layout of the digital class; :meth:`AnalogLayer.latent` gives
them in the layout of the cells, one row per output. The input is multiplied by, in order of precedence: the weights
installed by a chip; the latent weights realised with training noise (in training mode, if noise is installed); the
exact effective weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from hwaware.errors import UserError
from hwaware.hardware import Converters, Hardware, Ranges, Tiling
from hwaware.nn.arrays import converted, with_read_noise
from hwaware.nn.faults import apply_stuck_cells
from hwaware.nn.reference import add_reference_noise
from hwaware.nn.repaired import repair_largest_errors
from hwaware.nn.weights import compiled, fused
from hwaware.nn.weights.tables import ErrorTable, NoiseTable
from hwaware.nn.wires import add_wire_drop

#: Called with the inputs of each part of a layer's rows, and the column sums of each part.
Observer = Callable[[Sequence[Tensor], Sequence[Tensor]], None]


class ReadNoise(NamedTuple):
    """Read noise drawn for each product: the variance of the layer's weights, in their shape, and the generator."""

    variance: Tensor
    draws: torch.Generator


class LearnedRanges(NamedTuple):
    """Logarithms of a layer's learned ranges, each ``[1]``, or ``[n]`` for n arrays; None: not learned."""

    x_log: Tensor | None
    y_log: Tensor | None


class AnalogLayer(nn.Module):
    """Base class of analog layers, mixed into a digital class by :func:`hwaware.nn.convert`.

    Attributes:
        hardware: the layer's hardware.
        groups: groups of a convolution; 1 otherwise.
        noise: table of the weights' noise in training mode; None: exact weights.
        error: table of the weights' expected error, for the retention loss; None: off.
        stuck_cells: whether training noise includes the device's stuck cells.
        repaired: fraction of the weights, those with the largest errors, that training noise leaves out.
        is_compiled: whether training weights are computed by compiled functions, on a CPU.
        ready: result of :meth:`realise` for this training step, if it was computed together with other layers'.
        weight_error: ``Σ E[(ŵ - w_eff)²] / Σ w_eff²`` of the last training forward; None if ``error`` is None.
        ranges: ranges of the converters. A layer that is made digital keeps them for the next conversion.
        learned: learned ranges, used instead of ``ranges`` during training; None: ranges are not learned.
        observer: called with the signals at the converters, which are exact meanwhile, to measure ranges.
    """

    digital_class: ClassVar[type[nn.Module]]
    channel_dim: ClassVar[int]  #: channel dimension of the output, from its end (the batch may be missing)
    is_computed: ClassVar[bool] = False  #: whether latent weights are computed from the parameter in every pass
    note: ClassVar[str] = ""  #: what a user must know about its analog form

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
    is_compiled: bool = False
    ready: tuple[Tensor, Tensor | None] | None = None
    ranges: Ranges | None = None
    learned: LearnedRanges | None = None
    observer: Observer | None = None
    _watched: bool = False  # whether a pass has shown that the network does not read the weight past the layer
    _called: bool = True
    _installed: Tensor | None = None
    _beside: Callable[[Tensor, Tensor], Tensor] | None = None
    _output_draws: torch.Generator | None = None
    _read_noise: ReadNoise | None = None
    _digits: tuple[Tensor, Tensor] | None = None

    @property
    def converters(self) -> Converters | None:
        """Converters of the arrays; None: inputs and outputs are exact."""
        return self.hardware.crossbar.converters

    @property
    def tiling(self) -> Tiling:
        """How the weights are split over arrays."""
        return self.hardware.tiling(tuple(self.rows_shape), self.groups)

    def forward(self, input: Tensor) -> Tensor:
        if not self._called:
            self._called = True
        converters = self.converters
        if converters is None and self._read_noise is None:
            return self.apply_weight(input, self.realised_weight(), self.bias)
        if converters is None:
            output = with_read_noise(self, input)
        else:
            output = converted(self, input, converters)
        if self._beside is not None:
            output = self._beside(input, output)
        return self.with_bias(output)

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's operation with other weights: same stride, padding and groups, any number of rows."""
        raise NotImplementedError

    def with_bias(self, output: Tensor) -> Tensor:
        """Adds the bias to an output."""
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
        """The weights of one forward pass, in the latents' shape; fp32 unless a chip installed another dtype."""
        if self._installed is not None:
            return self._installed
        noise, error = (self.noise, self.error) if self.training else (None, None)
        weight, self.weight_error = self.realise(noise, error)
        if self.hardware.crossbar.wires is not None:
            about = self.weight_scale(), self.hardware, self.groups
            weight = add_wire_drop(weight, self.latent(), *about, training=self.training)
        if noise is not None and noise.reference_std:
            about = self.weight_scale(), self.hardware, self.groups
            weight = add_reference_noise(weight, self.latent(), *about, noise.reference_std)
        written = weight
        if noise is not None and self.stuck_cells:
            weight = apply_stuck_cells(weight, self.latent(), self.weight_scale(), self.hardware)
        if noise is not None and self.repaired:
            weight = repair_largest_errors(weight, written, self.latent(), self.hardware, self.repaired)
        # Outside autocast the layer computes in the precision of its parameters, like the digital one.
        return weight if torch.is_autocast_enabled(weight.device.type) else weight.to(self.weight.dtype)

    def realise(self, noise: NoiseTable | None, error: ErrorTable | None) -> tuple[Tensor, Tensor | None]:
        """:func:`hwaware.nn.weights.fused.realise` of the latent weights."""
        if self.ready is not None and noise is not None:
            return self.ready
        realise = compiled.realise if self.is_compiled else fused.realise
        return realise(self.latent(), self.hardware.encoding, noise, error)

    # Between the parameter and the layout of the cells.

    def as_rows(self, weight: Tensor) -> Tensor:
        """Rearranges a weight from the digital layout to ``[C_out, C_in/groups, *kernel]``; values are unchanged."""
        return weight

    def as_parameter(self, rows: Tensor) -> Tensor:
        """The inverse of :meth:`as_rows`, for any number of rows."""
        return rows

    def latent(self) -> Tensor:
        """Latent weights in the layout of the cells, ``[C_out, C_in/groups, *kernel]``; differentiable."""
        weight: Any = self.weight
        if hasattr(weight, "full_tensor"):  # an FSDP2 shard outside forward; the scale needs all shards
            weight = weight.full_tensor()
        return self.as_rows(weight)

    @torch.no_grad()
    def hold(self, latent: Tensor) -> None:
        """Sets the parameter so that :meth:`latent` returns ``latent``."""
        self.weight.copy_(self.as_parameter(latent))

    def predistort(self) -> None:
        """Pre-distorts the digital layer's parameter so that the effective weights equal the digital weights."""
        self.set_effective_weight(self.latent().detach().clone())

    @torch.no_grad()
    def digital_weight(self) -> Tensor:
        """The weight with which the digital layer has the same function."""
        return self.as_parameter(self.effective_weight())

    @torch.no_grad()
    def weight_scale(self) -> Tensor:
        """Scale s of the latent weights, fp32: 0-dim, or ``[C_out, 1, …]`` per output channel."""
        return self.hardware.encoding.scaling.of(self.latent().detach())

    @torch.no_grad()
    def effective_weight(self) -> Tensor:
        """Exact effective weights ``w_eff = s·sinh(rκu)/sinh(rκ)``, with u rounded to the format, in the layout of the
        cells and the parameter's dtype; detached."""
        return self.hardware.encoding.effective(self.latent()).to(self.weight.dtype)

    @torch.no_grad()
    def exact_weight(self) -> Tensor:
        """The weights of the layer with exact cells: the effective weights, with wire resistance."""
        weight = self.effective_weight()
        if self.hardware.crossbar.wires is None:
            return weight
        about = self.weight_scale(), self.hardware, self.groups
        return add_wire_drop(weight, self.latent(), *about, training=False)

    @torch.no_grad()
    def set_effective_weight(self, weight: Tensor) -> None:
        """Sets the latent weights so that the effective weights are ``weight``, rounded to the number format."""
        self.hold(self.hardware.encoding.latent(weight.to(self.weight.dtype)))  # in the precision of the parameter

    @property
    def rows_shape(self) -> torch.Size:
        """Shape of the weights in the layout of the cells; :func:`shape_in_cells` also takes digital layers."""
        return self.as_rows(self.weight).shape

    @property
    def n_cells(self) -> int:
        """Memory cells that hold the weights, reference columns included."""
        return self.hardware.n_cells(tuple(self.rows_shape), self.groups)


class AnalogLinear(AnalogLayer, nn.Linear):
    """:class:`torch.nn.Linear` on crossbars."""

    bias: Tensor | None  # type: ignore[assignment]  # torch's types know no Linear without one
    digital_class = nn.Linear
    channel_dim = -1

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(input, weight, bias)


#: Names of a part's weight and bias, and its slice of the weight parameter; None: no bias, the whole parameter.
Keys = tuple[str, str | None, int | None]


class Part(nn.Module):
    """A linear layer whose weight and bias are parameters of the module that contains it.

    :mod:`hwaware.nn.rewriting` creates it. It has no parameters of its own, so the network's keys stay the same.
    """

    whole: nn.Module
    keys: Keys

    def __init__(self, whole: nn.Module, keys: Keys) -> None:
        super().__init__()
        self.keys = keys
        self.__dict__["whole"] = whole  # not as a child module

    @property
    def parameter(self) -> Tensor:
        """The parameter that contains the weight."""
        return cast(Tensor, self.whole._parameters[self.keys[0]])

    @property
    def weight(self) -> Any:
        return self.parameter if self.keys[2] is None else self.parameter[self.keys[2]]

    @property
    def bias(self) -> Any:
        return None if self.keys[1] is None else self.whole._parameters.get(self.keys[1])

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


class AnalogPart(AnalogLayer, Part):
    """A linear layer that is part of another module, on crossbars."""

    digital_class = Part
    channel_dim = -1

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(input, weight, bias)


class AnalogOutProjection(AnalogLinear, NonDynamicallyQuantizableLinear):
    """The last layer of :class:`torch.nn.MultiheadAttention`, on crossbars."""

    digital_class = NonDynamicallyQuantizableLinear


class AnalogConv1d(AnalogLayer, nn.Conv1d):
    """:class:`torch.nn.Conv1d` (any stride, padding mode, dilation, groups) on crossbars."""

    digital_class = nn.Conv1d
    channel_dim = -2

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._conv_forward(input, weight, bias)


class AnalogConv2d(AnalogLayer, nn.Conv2d):
    """:class:`torch.nn.Conv2d`, likewise."""

    digital_class = nn.Conv2d
    channel_dim = -3

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._conv_forward(input, weight, bias)


class AnalogConv3d(AnalogLayer, nn.Conv3d):
    """:class:`torch.nn.Conv3d`, likewise."""

    digital_class = nn.Conv3d
    channel_dim = -4

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._conv_forward(input, weight, bias)


class AnalogConvTranspose(AnalogLayer):
    """A transposed convolution. Its parameter has inputs first; in the layout of the cells, outputs are first."""

    note = "called without output_size"

    def as_rows(self, weight: Tensor) -> Tensor:
        return weight.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)

    def as_parameter(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None:
            raise UserError(
                f"a {self.digital_class.__name__} in cells takes no output_size: give it output_padding, or keep it "
                "digital."
            )
        return super().forward(input)


class AnalogConvTranspose1d(AnalogConvTranspose, nn.ConvTranspose1d):
    """:class:`torch.nn.ConvTranspose1d` on crossbars; called without ``output_size``."""

    digital_class = nn.ConvTranspose1d
    channel_dim = -2

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        about: Any = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose1d(input, self.as_parameter(weight), bias, *about)


class AnalogConvTranspose2d(AnalogConvTranspose, nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d`, likewise."""

    digital_class = nn.ConvTranspose2d
    channel_dim = -3

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        about: Any = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return F.conv_transpose2d(input, self.as_parameter(weight), bias, *about)


#: Digital class -> analog class. Exact types only: a subclass may compute something else with its weight.
ANALOG_CLASSES: dict[type[nn.Module], type[AnalogLayer]] = {}


def register_analog(cls: type[AnalogLayer]) -> type[AnalogLayer]:
    """Makes :func:`hwaware.nn.convert` swap ``cls.digital_class`` for ``cls``; usable as a decorator."""
    ANALOG_CLASSES[cls.digital_class] = cls
    return cls


for _one in (
    AnalogLinear, AnalogOutProjection, AnalogPart, AnalogConv1d, AnalogConv2d, AnalogConv3d, AnalogConvTranspose1d,
    AnalogConvTranspose2d,
):  # fmt: skip
    register_analog(_one)


def weight_key(layer: Any) -> tuple[int, int | None]:
    """Identity of a layer's weight: that of its parameter, and the slice of it."""
    return (id(layer.parameter), layer.keys[2]) if isinstance(layer, Part) else (id(layer.weight), None)


def shape_in_cells(layer: Any) -> tuple[int, ...]:
    """The shape ``[C_out, C_in/groups, *kernel]`` of a layer that is or could be analog."""
    form = type(layer) if isinstance(layer, AnalogLayer) else ANALOG_CLASSES[type(layer)]
    return tuple(form.as_rows(layer, layer.weight).shape)


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The model's analog layers by name, each module once."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AnalogLayer)}
