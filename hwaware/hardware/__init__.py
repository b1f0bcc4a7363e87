"""What holds a network: devices, encodings, crossbars, and which layer stands on which."""

from hwaware.hardware.crossbar import Converters, Crossbar, Ranges
from hwaware.hardware.devices import Device, device_names, load_device
from hwaware.hardware.encoding import Codes, Continuous, Encoding, Levels, Mapping, import_mapping
from hwaware.hardware.hardware import Hardware
from hwaware.hardware.load import hardware_from_flat, hardware_from_plain, load_hardware, placement_from_plain
from hwaware.hardware.options import (
    CrossbarOptions,
    EncodingOptions,
    HardwareOptions,
    KeepDigital,
    LayerOptions,
)
from hwaware.hardware.placement import Placement, Rule

__all__ = [
    "Codes",
    "Continuous",
    "Converters",
    "Crossbar",
    "CrossbarOptions",
    "Device",
    "Encoding",
    "EncodingOptions",
    "Hardware",
    "HardwareOptions",
    "KeepDigital",
    "LayerOptions",
    "Levels",
    "Mapping",
    "Placement",
    "Ranges",
    "Rule",
    "device_names",
    "hardware_from_flat",
    "hardware_from_plain",
    "import_mapping",
    "load_device",
    "load_hardware",
    "placement_from_plain",
]
