"""Temporary changes of a network: a chip's weights and noise, the digital part of a repair, eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.nn.layers import AnalogLayer, ReadNoise, analog_layers
from hwaware.nn.reads import refusing_reads


@dataclass(frozen=True)
class Beside:
    """Digital computation beside a layer's cells: ``y ← gain·(y + branch x)``, with the digital input x.

    Attributes:
        branch: a matrix in the shape of the layer's weight, or flattened from its second dimension on; None: no branch.
        gain: one number, or one per output channel; None: 1.
    """

    branch: Tensor | None = None
    gain: Tensor | None = None

    def on_weight(self, weight: Tensor) -> Tensor:
        """Applies it to the weights, which saves passes over the activations."""
        if self.branch is not None:
            weight = weight + self.branch.view_as(weight).to(weight.dtype)
        if self.gain is not None:
            weight = weight * self.gain.view(-1, *[1] * (weight.ndim - 1)).to(weight.dtype)
        return weight

    def on_output(self, layer: AnalogLayer, input: Tensor, output: Tensor) -> Tensor:
        """Applies it to a layer's output without bias."""
        if self.branch is not None:
            output = output + layer.apply_weight(input, self.branch.view(layer.rows_shape).to(input.dtype))
        if self.gain is not None:
            gain = self.gain if self.gain.numel() == 1 else layer.along_channels(self.gain.flatten(), output)
            output = output * gain.to(output.dtype)
        return output


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Within the context a model is in eval mode, without gradients; on exit each module returns to its own mode."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def installed_weights(model: nn.Module, weight_of: Callable[[str, AnalogLayer], Tensor]) -> Iterator[None]:
    """Within the context each analog layer multiplies with ``weight_of(name, layer)``; contexts may be nested.

    Raises:
        UserError: at the network's first call, if it reads the weight of a layer that it does not call.
    """
    with _installed(model, "_installed", weight_of), refusing_reads(model):
        yield


@contextmanager
def installed_beside(model: nn.Module, beside_of: Callable[[str, AnalogLayer], Beside]) -> Iterator[None]:
    """Within the context ``beside_of(name, layer)`` is applied beside the cells of each analog layer.

    Without converters this is the same as changing the weights; after an ADC it is not.
    """

    def weight(name: str, layer: AnalogLayer) -> Tensor | None:
        return layer._installed if layer.converters else beside_of(name, layer).on_weight(layer.realised_weight())

    def output(name: str, layer: AnalogLayer) -> Callable[[Tensor, Tensor], Tensor] | None:
        return partial(beside_of(name, layer).on_output, layer) if layer.converters else None

    with _installed(model, "_installed", weight), _installed(model, "_beside", output):
        yield


@contextmanager
def installed_output_noise(model: nn.Module, draws_of: Callable[[str, AnalogLayer], torch.Generator]) -> Iterator[None]:
    """Within the context converters draw output noise from ``draws_of(name, layer)``; otherwise only in training."""

    def draws(name: str, layer: AnalogLayer) -> torch.Generator | None:
        return draws_of(name, layer) if layer.converters is not None and layer.converters.output_noise else None

    with _installed(model, "_output_draws", draws):
        yield


@contextmanager
def installed_read_noise(model: nn.Module, noise_of: Callable[[str, AnalogLayer], ReadNoise | None]) -> Iterator[None]:
    """Within the context each product of a layer has the read noise of ``noise_of(name, layer)``; None: none."""
    with _installed(model, "_read_noise", noise_of):
        yield


@contextmanager
def installed_digits(
    model: nn.Module, digits_of: Callable[[str, AnalogLayer], tuple[Tensor, Tensor] | None]
) -> Iterator[None]:
    """Within the context layers use the digits of ``digits_of(name, layer)``, in the form of
    :meth:`hwaware.hardware.Hardware.digit_weights`; None: exact digits."""
    with _installed(model, "_digits", digits_of):
        yield


@contextmanager
def _installed(model: nn.Module, attribute: str, value_of: Callable[[str, AnalogLayer], Any]) -> Iterator[None]:
    layers = analog_layers(model)
    before = {name: getattr(layer, attribute) for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            setattr(layer, attribute, value_of(name, layer))
        yield
    finally:
        for name, layer in layers.items():
            setattr(layer, attribute, before[name])
