"""Costs of compensation methods, counted from the network's layers."""

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

#: Time (s) to write a cell of resistive memory: the shortest and the longest that the same source states.
CELL_WRITE_S = (6.5e-6, 4.5e-3)

#: Bytes of a half-precision float, the default format of stored values.
HALF_BYTES = 2

#: Bytes of a stored label: up to 65,536 classes.
LABEL_BYTES = 2

#: Bytes of a stored token: vocabularies of up to 65,536.
TOKEN_BYTES = 2

#: Bytes of a seed from which random numbers are regenerated on the chip.
SEED_BYTES = 8


@dataclass(frozen=True)
class LayerSize:
    """Size of one analog layer.

    Attributes:
        out_channels: C_out.
        in_channels: input channels of one group.
        kernel: taps of the kernel; 1 for linear layers.
        groups: groups of a convolution; 1 otherwise.
        inputs, outputs: input and output values for one sample; 0 if the layer is never called.
        cells: cells that hold its weights, parallel cells and reference columns included; 0 if the weight is tied to
            another layer's.
        cells_per_weight: cells of one weight, parallel cells included, reference cells not.
        transposed: whether it is a transposed convolution, in which each input (not each output) uses the whole
            kernel.
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
    """Size of a converted network.

    Attributes:
        layers: its analog layers by name.
        norm_channels: channels of all batch norms.
        affine_norm_channels: channels of the batch norms with scale and shift.
        layer_norms, layer_norm_channels: number of layer norms, and their channels.
        parameters: parameters of the whole network.
        sample_bytes: bytes of one stored input sample: one per value (8-bit images), or ``TOKEN_BYTES`` per token.
        answer_bytes: bytes of the training target stored with a sample: its label and, under distillation, the digital
            network's outputs in half precision.
        labelled: whether the training target includes a label.
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
    """Cost of one method.

    Attributes:
        bytes_stored: bytes in digital memory: parameters of all drift levels, and stored samples.
        extra_macs_percent: extra multiply-accumulates per inference, in percent of the network's.
        images_kept, labels_kept: samples and labels that must be stored in the field.
        cell_reads, cell_writes: cell operations per calibration, without the network's forward and backward passes.
        update_time_s: write time (s) of one calibration: ``SRAM_WRITE_S`` for each digital value, the shorter of
            ``CELL_WRITE_S`` for each cell.
        update_time_slow_s: the same with the longer of ``CELL_WRITE_S``.
        trainable_percent: fitted parameters, in percent of the network's.
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
        if not self.cell_writes:  # only the write time of cells has a range
            object.__setattr__(self, "update_time_slow_s", self.update_time_s)


def address_bytes(picked: int, among: int) -> float:
    """Bytes for the addresses of the picked weights of a layer; 0 if all were picked."""
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
        model: the network, in eval mode.
        predict: runs it on a batch.
        batch: samples; the first tensor is the input.
        label_bytes: bytes of a stored label.
        distillation: see :class:`hwaware.compensation.base.FitData`; 0: labels only, 1: no labels.
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
