"""Analog layers, and the conversion of networks to and from them."""

from hwaware.nn.convert import (
    ConversionReport,
    ConvertedLayer,
    analog_layers,
    convert,
    digital_layers,
    effective_state_dict,
    to_digital,
)
from hwaware.nn.install import installed_weights
from hwaware.nn.layers import AnalogConv2d, AnalogLayer, AnalogLinear, register_analog

__all__ = [
    "AnalogConv2d",
    "AnalogLayer",
    "AnalogLinear",
    "ConversionReport",
    "ConvertedLayer",
    "analog_layers",
    "convert",
    "digital_layers",
    "effective_state_dict",
    "installed_weights",
    "register_analog",
    "to_digital",
]
