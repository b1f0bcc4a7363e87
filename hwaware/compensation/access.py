"""Reaching into a converted network for a while: its layers' outputs, its parameters."""

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
    """Within the context no parameter of the network asks for a gradient: backward is that of the inputs alone."""
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
