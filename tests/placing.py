"""Converted networks put on other hardware: for tests of chips that differ from what a network was made for."""

import copy

from torch import nn

from hwaware.hardware import EncodingOptions, Hardware, HardwareOptions, Placement, Rule
from hwaware.nn import analog_layers


def on(model: nn.Module, hardware: Hardware) -> nn.Module:
    """A copy of a converted network, its latent weights as they are, all on one hardware."""
    model = copy.deepcopy(model)
    for layer in analog_layers(model).values():
        layer.hardware = hardware
    return model


def options(name: str, **encoding: object) -> HardwareOptions:
    """A recipe's hardware: a device by name, and words of the encoding."""
    return HardwareOptions({"name": name}, EncodingOptions(**encoding))


def without(hardware: Hardware, *patterns: str) -> Placement:
    """All on one hardware but what patterns match, which stays digital."""
    return Placement(hardware, (Rule(patterns, None),))
