"""What a repair costs, counted from the network's own layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.compensation.access import on_outputs
from hwaware.compensation.norms import affine_batch_norms, batch_norms, layer_norms
from hwaware.nn import AnalogLayer, analog_layers, weight_owners
from hwaware.nn.layers import AnalogConvTranspose

#: Time (s) to write one parameter of digital memory (Charan et al. 2020, 10.1109/JXCDC.2020.2987605).
SRAM_WRITE_S = 1e-9

#: Time (s) to write a cell of resistive memory: the fastest and the slowest that the same source states.
CELL_WRITE_S = (6.5e-6, 4.5e-3)

#: Bytes of a half-precision float, as which values are stored that have no bits of their own.
HALF_BYTES = 2

#: Bytes of a stored label: up to 65,536 classes.
LABEL_BYTES = 2

#: Bytes of a stored token: vocabularies of up to 65,536.
TOKEN_BYTES = 2

#: Bytes of a seed from which random numbers are made again where they are needed.
SEED_BYTES = 8


@dataclass(frozen=True)
class LayerSize:
    """One analog layer.

    Attributes:
        out_channels: C_out.
        in_channels: of one group.
        kernel: positions of the kernel; 1 for linear layers.
        groups: of a convolution; 1 otherwise.
        inputs, outputs: input and output values for one sample; 0 of a layer that is never called.
        cells: that hold its weights, parallel ones and reference columns included; 0 where they are another layer's,
            tied to it.
        cells_per_weight: parallel ones included, without reference columns.
        transposed: whether it is a transposed convolution, in which every input meets the whole kernel, and not every
            output.
    """

    out_channels: int
    in_channels: int
    kernel: int
    groups: int
    inputs: int
    outputs: int
    cells: int
    cells_per_weight: int
    transposed: bool = False

    @property
    def weights(self) -> int:
        return self.out_channels * self.in_channels * self.kernel

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample."""
        if self.transposed:
            return self.inputs * self.out_channels // self.groups * self.kernel
        return self.outputs * self.in_channels * self.kernel

    @property
    def positions(self) -> int:
        """Output positions for one sample."""
        return self.outputs // self.out_channels


@dataclass(frozen=True)
class NetworkSize:
    """A converted network.

    Attributes:
        layers: its analog layers by name.
        norm_channels: channels of all batch norms together.
        affine_norm_channels: of those that have a scale and a shift.
        layer_norms, layer_norm_channels: how many layer norms there are, and their channels together.
        parameters: all of the network's.
        sample_bytes: of one stored input sample, a byte for each value (images as they come from a camera), or
            ``TOKEN_BYTES`` for each token.
        answer_bytes: of what is stored with a sample to learn from it by the loss: its label and, under distillation,
            the digital network's outputs, in half precision.
        labelled: whether that has a label in it.
    """

    layers: dict[str, LayerSize]
    norm_channels: int
    affine_norm_channels: int
    layer_norms: int
    layer_norm_channels: int
    parameters: int
    sample_bytes: int
    answer_bytes: int = LABEL_BYTES
    labelled: bool = True

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers.values())

    @property
    def cells(self) -> int:
        return sum(layer.cells for layer in self.layers.values())


@dataclass(frozen=True)
class Cost:
    """What one method costs.

    Attributes:
        bytes_stored: parameters of all drift levels and samples kept, in digital memory.
        extra_macs_percent: multiply-accumulates per inference, of those of the network.
        images_kept, labels_kept: samples and labels that have to be kept in the field.
        cell_reads, cell_writes: per calibration, beside running the network forward and backward on the crossbars.
        update_time_s: of one calibration, by its writes alone: ``SRAM_WRITE_S`` for each value in digital memory, the
            faster of ``CELL_WRITE_S`` for each cell.
        update_time_slow_s: the same with the slower of them.
        trainable_percent: parameters fitted, of the network's.
    """

    bytes_stored: float
    extra_macs_percent: float
    images_kept: int = 0
    labels_kept: int = 0
    cell_reads: int = 0
    cell_writes: int = 0
    update_time_s: float = 0.0
    update_time_slow_s: float = 0.0
    trainable_percent: float = 0.0

    def __post_init__(self) -> None:
        if not self.cell_writes:  # digital memory is as fast on every chip
            object.__setattr__(self, "update_time_slow_s", self.update_time_s)


def address_bytes(picked: int, among: int) -> float:
    """Bytes that say which of a layer's weights were picked, an address for each; none where all were."""
    return picked * math.ceil(math.log2(among)) / 8 if picked < among else 0.0


@torch.no_grad()
def network_size(
    model: nn.Module,
    predict: Callable[[nn.Module, Any], Any],
    batch: Any,
    distillation: float = 0.0,
    label_bytes: int = LABEL_BYTES,
) -> NetworkSize:
    """Measures a converted network by one forward pass.

    Args:
        model: in eval mode.
        predict: runs it on a batch.
        batch: samples, whose first tensor is the input.
        label_bytes: of a stored label.
        distillation: see :class:`hwaware.compensation.base.FitData`; 0 learns from labels alone, 1 without them.
    """
    samples = len(batch[0])
    inputs: dict[str, int] = {}
    outputs: dict[str, int] = {}

    def count(name: str, layer: AnalogLayer, x: Tensor, y: Tensor) -> Tensor:
        inputs[name] = inputs.get(name, 0) + x.numel() // samples
        outputs[name] = outputs.get(name, 0) + y.numel() // samples
        return y

    with on_outputs(model, count):
        predicted = predict(model, batch)
    sizes, owners = {}, weight_owners(model)
    for name, layer in analog_layers(model).items():
        rows, columns, *kernel = layer.rows_shape
        sizes[name] = LayerSize(
            out_channels=rows,
            in_channels=columns,
            kernel=torch.Size(kernel).numel(),
            groups=layer.groups,
            inputs=inputs.get(name, 0),
            outputs=outputs.get(name, 0),
            cells_per_weight=layer.hardware.encoding.cells_per_weight,
            cells=layer.n_cells if owners[name] == name else 0,
            transposed=isinstance(layer, AnalogConvTranspose),
        )
    parts = [predicted] if isinstance(predicted, Tensor) else predicted
    taught = HALF_BYTES * sum(part.numel() for part in parts) // samples if distillation else 0
    of_batches, of_layers = batch_norms(model).values(), layer_norms(model).values()
    return NetworkSize(
        layers=sizes,
        norm_channels=sum(norm.num_features for norm in of_batches),
        affine_norm_channels=sum(norm.num_features for norm in affine_batch_norms(model).values()),
        layer_norms=len(of_layers),
        layer_norm_channels=sum(norm.weight.numel() for norm in of_layers),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sample_bytes=batch[0][0].numel() * (1 if batch[0].is_floating_point() else TOKEN_BYTES),
        answer_bytes=taught + (label_bytes if distillation < 1 else 0),
        labelled=distillation < 1,
    )
