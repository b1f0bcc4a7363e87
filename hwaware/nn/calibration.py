"""Measuring the ranges of converters on what the exact network computes."""

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

#: Values of one batch from which a layer's percentile is estimated, and the seed of which ones.
_SAMPLED, _SAMPLE_SEED = 2**16, 20_260_501


def calibrate(model: nn.Module, predict: Callable[[nn.Module, Any], Any], batches: Iterable[Any]) -> None:
    """Measures the ranges of all converters of a converted network, on what the exact network computes.

    Args:
        model: after :func:`hwaware.nn.convert`.
        predict: runs a network on a batch.
        batches: calibration samples; never those that results are reported on.

    Raises:
        UserError: a layer is never called.
    """
    layers = layers_with_converters(model)
    batches = list(batches)
    before = {name: layer.ranges for name, (layer, _) in layers.items()}
    try:
        for layer, _ in layers.values():
            layer.ranges = None  # else inputs would be rounded by them
        _measure(model, layers, predict, batches)
    except BaseException:
        for name, (layer, _) in layers.items():
            layer.ranges = before[name]
        raise
    sliced = {name: one for name, one in layers.items() if one[1].dac_slice_bits is not None}
    if sliced:  # of slices of inputs, which are known once the inputs' range is
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
    """Magnitudes of what one layer's converters would convert."""

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
    """The analog layers about whose crossbars there are converters, and these."""
    layers = analog_layers(model).items()
    return {name: (layer, layer.converters) for name, layer in layers if layer.converters is not None}


def _percentile(values: Tensor, percentile: float) -> float:
    if len(values) > 2**24:  # as many as torch.quantile takes
        values = values[:: -(-len(values) // 2**24)]
    return torch.quantile(values, percentile / 100).item() or 1.0  # a layer that gives nothing but zeros
