"""Analog layers, and the conversion of networks to analog and back."""

from hwaware.nn.adapters import adapters, add_adapters, merge_adapters
from hwaware.nn.calibration import calibrate, layers_with_converters
from hwaware.nn.convert import (
    ConversionReport,
    ConvertedLayer,
    convert,
    digital_layers,
    effective_state_dict,
    main_hardware,
    owning_layers,
    to_digital,
    weight_owners,
)
from hwaware.nn.install import (
    Beside,
    installed_beside,
    installed_digits,
    installed_output_noise,
    installed_read_noise,
    installed_weights,
)
from hwaware.nn.layers import AnalogConv2d, AnalogLayer, AnalogLinear, ReadNoise, analog_layers, register_analog
from hwaware.nn.measured import Measured

__all__ = [
    "AnalogConv2d",
    "AnalogLayer",
    "AnalogLinear",
    "Beside",
    "ConversionReport",
    "ConvertedLayer",
    "Measured",
    "ReadNoise",
    "adapters",
    "add_adapters",
    "analog_layers",
    "calibrate",
    "convert",
    "digital_layers",
    "effective_state_dict",
    "installed_beside",
    "installed_digits",
    "installed_output_noise",
    "installed_read_noise",
    "installed_weights",
    "layers_with_converters",
    "main_hardware",
    "merge_adapters",
    "owning_layers",
    "register_analog",
    "to_digital",
    "weight_owners",
]
