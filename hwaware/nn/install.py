"""Putting other weights into a converted network for a while: a chip's, a repaired chip's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from hwaware.nn.convert import analog_layers
from hwaware.nn.layers import AnalogLayer


@contextmanager
def installed_weights(model: nn.Module, weight_of: Callable[[str, AnalogLayer], Tensor]) -> Iterator[None]:
    """Within the context each analog layer multiplies with ``weight_of(name, layer)``; contexts may be nested."""
    layers = analog_layers(model)
    before = {name: layer._installed for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer._installed = weight_of(name, layer)
        yield
    finally:
        for name, layer in layers.items():
            layer._installed = before[name]
