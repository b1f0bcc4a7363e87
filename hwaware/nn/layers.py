"""Analog layers: digital layers whose weight lives in conductances.

An analog layer is its digital class with another ``forward``: same parameters, ``state_dict`` keys and hooks. Its
``weight`` parameter holds the *latent* weights, in the digital class's own form; :meth:`AnalogLayer.latent` gives them
as cells hold them, a row for each output. What multiplies the input is, in this order of precedence, the weights that a
chip has installed, the latents realised with training noise (in training mode, where noise is installed), or the exact
effective weights.
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

#: Is shown the inputs of each part of a layer's rows, and what the part's columns sum up.
Observer = Callable[[Sequence[Tensor], Sequence[Tensor]], None]


class ReadNoise(NamedTuple):
    """Of cells in each product: the variance of the layer's weights, in their shape, and where it is drawn from."""

    variance: Tensor
    draws: torch.Generator


class LearnedRanges(NamedTuple):
    """Logarithms of a layer's ranges while they train, each ``[1]``, or ``[n]`` for n arrays; None: not that one."""

    x_log: Tensor | None
    y_log: Tensor | None


class AnalogLayer(nn.Module):
    """What all analog layers share; mixed into a digital class by :func:`hwaware.nn.convert`.

    Attributes:
        hardware: what holds the weights.
        groups: of a convolution; 1 otherwise.
        noise: of the weights in training mode; None: exact.
        error: expected of the weights, for the retention loss; None: off.
        stuck_cells: whether training noise also draws the device's stuck cells.
        repaired: share of the weights, those with the largest errors, that training noise leaves out.
        is_compiled: whether training weights are computed by compiled functions, on a CPU.
        ready: what :meth:`realise` gives in this training step, where it was computed with other layers' beforehand.
        weight_error: ``Σ E[(ŵ - w_eff)²] / Σ w_eff²`` of the last training forward; None where ``error`` is.
        ranges: that the arrays' converters span; kept by a layer that is made digital, and taken up again.
        learned: that they span while they train, in place of ``ranges``; None: they do not.
        observer: is shown what converters would convert, while their ranges are measured; they then are exact.
    """

    digital_class: ClassVar[type[nn.Module]]
    channel_dim: ClassVar[int]  #: of the output, from its end: a batch may lack
    is_computed: ClassVar[bool] = False  #: whether the latents are computed from the parameter in every pass
    note: ClassVar[str] = ""  #: what a user has to know of its form in cells

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
        """About the arrays; None: inputs and outputs are exact."""
        return self.hardware.crossbar.converters

    @property
    def tiling(self) -> Tiling:
        """How the weights are cut into arrays."""
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
        # Outside autocast the layer computes in its parameters' own precision, as the digital one does.
        return weight if torch.is_autocast_enabled(weight.device.type) else weight.to(self.weight.dtype)

    def realise(self, noise: NoiseTable | None, error: ErrorTable | None) -> tuple[Tensor, Tensor | None]:
        """:func:`hwaware.nn.weights.fused.realise` of the latents."""
        if self.ready is not None and noise is not None:
            return self.ready
        realise = compiled.realise if self.is_compiled else fused.realise
        return realise(self.latent(), self.hardware.encoding, noise, error)

    # From the parameter to what cells hold, and back.

    def as_rows(self, weight: Tensor) -> Tensor:
        """A weight in the digital class's form as ``[C_out, C_in/groups, *kernel]``; elements are moved at most."""
        return weight

    def as_parameter(self, rows: Tensor) -> Tensor:
        """The reverse, of any number of rows."""
        return rows

    def latent(self) -> Tensor:
        """Latent weights as cells hold them, ``[C_out, C_in/groups, *kernel]``; differentiable in the parameter."""
        weight: Any = self.weight
        if hasattr(weight, "full_tensor"):  # FSDP2's shard, outside of forward; the scale is of all shards
            weight = weight.full_tensor()
        return self.as_rows(weight)

    @torch.no_grad()
    def hold(self, latent: Tensor) -> None:
        """Sets the parameter so that :meth:`latent` is this."""
        self.weight.copy_(self.as_parameter(latent))

    def predistort(self) -> None:
        """Makes the parameter, which is the digital layer's, that of a layer with the same effective weights."""
        self.set_effective_weight(self.latent().detach().clone())

    @torch.no_grad()
    def digital_weight(self) -> Tensor:
        """What the digital layer's weight has to be for the same function."""
        return self.as_parameter(self.effective_weight())

    @torch.no_grad()
    def weight_scale(self) -> Tensor:
        """Scale s of the latents in fp32: 0-dim, or ``[C_out, 1, …]`` per output channel."""
        return self.hardware.encoding.scaling.of(self.latent().detach())

    @torch.no_grad()
    def effective_weight(self) -> Tensor:
        """Exact effective weights ``w_eff = s·sinh(rκu)/sinh(rκ)``, u as written, as cells hold them; the parameter's
        dtype, detached."""
        return self.hardware.encoding.effective(self.latent()).to(self.weight.dtype)

    @torch.no_grad()
    def exact_weight(self) -> Tensor:
        """What the layer multiplies by where all cells are as wanted: the effective weights, through the wires."""
        weight = self.effective_weight()
        if self.hardware.crossbar.wires is None:
            return weight
        about = self.weight_scale(), self.hardware, self.groups
        return add_wire_drop(weight, self.latent(), *about, training=False)

    @torch.no_grad()
    def set_effective_weight(self, weight: Tensor) -> None:
        """Sets the latents so that the effective weights are ``weight``, or on the levels or codes next to it."""
        self.hold(self.hardware.encoding.latent(weight.to(self.weight.dtype)))  # rounded as the parameter is

    @property
    def rows_shape(self) -> torch.Size:
        """Shape of the weights as cells hold them; :func:`shape_in_cells` gives a digital layer's, too."""
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


#: Names of a part's weight and bias, and which slice of the weight's parameter it is; None: no bias, all of it.
Keys = tuple[str, str | None, int | None]


class Part(nn.Module):
    """A linear layer whose weight and bias are parameters of the module that it lies in, under names of their own.

    Made by :mod:`hwaware.nn.rewriting`; has no parameters, so that the network's keys stay what they are.
    """

    whole: nn.Module
    keys: Keys

    def __init__(self, whole: nn.Module, keys: Keys) -> None:
        super().__init__()
        self.keys = keys
        self.__dict__["whole"] = whole  # not as a child

    @property
    def parameter(self) -> Tensor:
        """That the weight is, or is a slice of."""
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
    """A linear layer that is part of a module, on crossbars."""

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
    """A transposed convolution. Its parameter has inputs first; in cells outputs are, as everywhere."""

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
    """What tells a layer's weight from others': of the parameter that it is, or is a slice of, and which slice."""
    return (id(layer.parameter), layer.keys[2]) if isinstance(layer, Part) else (id(layer.weight), None)


def shape_in_cells(layer: Any) -> tuple[int, ...]:
    """``[C_out, C_in/groups, *kernel]`` of a layer that is in cells, or could be."""
    form = type(layer) if isinstance(layer, AnalogLayer) else ANALOG_CLASSES[type(layer)]
    return tuple(form.as_rows(layer, layer.weight).shape)


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The model's analog layers by name, each module once."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AnalogLayer)}
