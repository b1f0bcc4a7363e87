"""Measuring the ranges of converters on what the exact network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in layers}
    draw = torch.Generator().manual_seed(_SAMPLE_SEED)

    def keep(kept: list[Tensor], values: Tensor, percentile: float) -> None:
        values = values.abs().flatten()
        if percentile == 100:
            values = values.amax().view(1)
        elif len(values) > _SAMPLED:
            values = values[torch.randint(len(values), (_SAMPLED,), generator=draw).to(values.device)]
        kept.append(values.float())

    def record(name: str, percentile: float) -> Callable[..., None]:
        def hook(layer: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs, outputs = found[name]
            keep(inputs, args[0], percentile)
            keep(outputs, layer.without_bias(output), percentile)

        return hook

    percentiles = {name: converters.percentile for name, (_, converters) in layers.items()}
    handles = [
        layer.register_forward_hook(record(name, percentiles[name]), prepend=True)
        for name, (layer, _) in layers.items()
    ]  # before what adapters add
    try:
        for layer, _ in layers.values():
            layer._exact_signals = True
        with eval_mode(model):
            for batch in batches:
                predict(model, batch)
    finally:
        for handle in handles:
            handle.remove()
        for layer, _ in layers.values():
            layer._exact_signals = False
    for name, (layer, _) in layers.items():
        if not found[name][0]:
            raise UserError(
                f"layer '{name}' has converters, but the network never calls it: keep it digital "
                f"({as_digital([name])})."
            )
        limits = (_percentile(torch.cat(kept), percentiles[name]) for kept in found[name])
        layer.ranges = Ranges(*limits)


def layers_with_converters(model: nn.Module) -> dict[str, tuple[AnalogLayer, Converters]]:
    """The analog layers about whose crossbars there are converters, and these."""
    layers = analog_layers(model).items()
    return {name: (layer, layer.converters) for name, layer in layers if layer.converters is not None}


def _percentile(values: Tensor, percentile: float) -> float:
    if len(values) > 2**24:  # as many as torch.quantile takes
        values = values[:: -(-len(values) // 2**24)]
    return torch.quantile(values, percentile / 100).item() or 1.0  # a layer that gives nothing but zeros
