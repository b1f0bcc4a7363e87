"""Analog layers, and the conversion of networks to and from them."""

from hwaware.nn.calibration import calibrate, layers_with_converters, ranges_of, set_ranges
from hwaware.nn.convert import (
    ConversionReport,
    ConvertedLayer,
    analog_layers,
    convert,
    digital_layers,
    effective_state_dict,
    main_hardware,
    owning_layers,
    to_digital,
    weight_owners,
)
from hwaware.nn.install import Beside, installed_beside, installed_output_noise, installed_weights
from hwaware.nn.layers import AnalogConv2d, AnalogLayer, AnalogLinear, register_analog

__all__ = [
    "AnalogConv2d",
    "AnalogLayer",
    "AnalogLinear",
    "Beside",
    "ConversionReport",
    "ConvertedLayer",
    "analog_layers",
    "calibrate",
    "convert",
    "digital_layers",
    "effective_state_dict",
    "installed_beside",
    "installed_output_noise",
    "installed_weights",
    "layers_with_converters",
    "main_hardware",
    "owning_layers",
    "ranges_of",
    "register_analog",
    "set_ranges",
    "to_digital",
    "weight_owners",
]
