"""Measures the ranges of converters on the signals of the exact network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Converters, Ranges
from hwaware.nn.install import eval_mode
from hwaware.nn.layers import AnalogLayer, analog_layers
from hwaware.nn.refusals import as_digital

#: Number of values per batch that a layer's percentile is estimated from, and the seed for picking them.
_SAMPLED, _SAMPLE_SEED = 2**16, 20_260_501


def calibrate(model: nn.Module, predict: Callable[[nn.Module, Any], Any], batches: Iterable[Any]) -> None:
    """Measures the ranges of all converters of a converted network, on the signals of the exact network.

    Args:
        model: the network after :func:`hwaware.nn.convert`.
        predict: runs a network on a batch.
        batches: batches of calibration samples; never those that results are reported on.

    Raises:
        UserError: a layer with converters is never called.
    """
    layers = layers_with_converters(model)
    batches = list(batches)
    before = {name: layer.ranges for name, (layer, _) in layers.items()}
    try:
        for layer, _ in layers.values():
            layer.ranges = None  # old ranges would round the inputs
        _measure(model, layers, predict, batches)
    except BaseException:
        for name, (layer, _) in layers.items():
            layer.ranges = before[name]
        raise
    sliced = {name: one for name, one in layers.items() if one[1].dac_slice_bits is not None}
    if sliced:  # the slices of the inputs depend on the ranges of the inputs
        _measure(model, sliced, predict, batches)


def _measure(
    model: nn.Module,
    layers: dict[str, tuple[AnalogLayer, Converters]],
    predict: Callable[[nn.Module, Any], Any],
    batches: Iterable[Any],
) -> None:
    seen = {name: _Seen(converters, torch.Generator()) for name, (_, converters) in layers.items()}
    try:
        for name, (layer, _) in layers.items():
            layer.observer = seen[name]
        with eval_mode(model):
            for batch in batches:
                predict(model, batch)
    finally:
        for layer, _ in layers.values():
            layer.observer = None
    for name, (layer, _) in layers.items():
        if not seen[name].inputs:
            raise UserError(
                f"layer '{name}' has converters, but the network never calls it: keep it digital "
                f"({as_digital([name])})."
            )
        found = seen[name].ranges()
        layer.ranges = found if layer.ranges is None else Ranges(layer.ranges.x_max, found.y_max)


class _Seen:
    """Magnitudes of the signals at the converters of one layer."""

    def __init__(self, converters: Converters, draw: torch.Generator) -> None:
        self._percentile, self._per_array = converters.percentile, converters.per_array
        self._draw = draw.manual_seed(_SAMPLE_SEED)
        self.inputs: list[list[Tensor]] = []
        self.sums: list[list[Tensor]] = []

    def __call__(self, inputs: Sequence[Tensor], sums: Sequence[Tensor]) -> None:
        for kept, values in ((self.inputs, inputs), (self.sums, sums)):
            kept.append([self._sampled(one) for one in values])

    def _sampled(self, values: Tensor) -> Tensor:
        values = values.abs().flatten()
        if self._percentile == 100:
            values = values.amax().view(1)
        elif len(values) > _SAMPLED:
            values = values[torch.randint(len(values), (_SAMPLED,), generator=self._draw).to(values.device)]
        return values.float()

    def ranges(self) -> Ranges:
        limits = []
        for batches in (self.inputs, self.sums):
            of_arrays = [torch.cat(one) for one in zip(*batches, strict=True)]
            if not self._per_array:
                of_arrays = [torch.cat(of_arrays)]
            found = tuple(_percentile(values, self._percentile) for values in of_arrays)
            limits.append(found[0] if len(found) == 1 else found)
        return Ranges(*limits)


def layers_with_converters(model: nn.Module) -> dict[str, tuple[AnalogLayer, Converters]]:
    """The analog layers with converters, and their converters, by name."""
    layers = analog_layers(model).items()
    return {name: (layer, layer.converters) for name, layer in layers if layer.converters is not None}


def _percentile(values: Tensor, percentile: float) -> float:
    if len(values) > 2**24:  # the limit of torch.quantile
        values = values[:: -(-len(values) // 2**24)]
    return torch.quantile(values, percentile / 100).item() or 1.0  # for a layer whose signals are all zero
