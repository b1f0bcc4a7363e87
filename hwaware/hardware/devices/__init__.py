"""The physics of memory cells: programming error, drift, read noise, stuck cells."""

from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.die_spread import DieSpread
from hwaware.hardware.devices.laws.retention import LogTimeDrift, RelativeDrift
from hwaware.hardware.devices.registry import (
    device_file,
    device_from_dict,
    device_names,
    device_to_dict,
    load_device,
    read_device_file,
)

__all__ = [
    "Device",
    "DieSpread",
    "LogTimeDrift",
    "RelativeDrift",
    "device_file",
    "device_from_dict",
    "device_names",
    "device_to_dict",
    "load_device",
    "read_device_file",
]
