"""Temporary changes of a converted network: outputs of its layers, gradients of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from hwaware.nn import AnalogLayer, analog_layers


@contextmanager
def on_outputs(model: nn.Module, change: Callable[[str, AnalogLayer, Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Within the context, ``change(name, layer, input, output)`` replaces the output of each analog layer."""

    def hook(name: str) -> Callable[[AnalogLayer, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda layer, args, output: change(name, layer, args[0], output)

    handles = [layer.register_forward_hook(hook(name)) for name, layer in analog_layers(model).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Within the context no parameter requires a gradient; backward computes gradients of the inputs only."""
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
