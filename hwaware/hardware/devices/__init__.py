"""Device physics: mapping, programming error, drift, read noise, stuck cells, I-V curve."""

from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.laws.retention import LogTimeDrift, RelativeDrift
from hwaware.hardware.devices.registry import device_file, device_from_dict, device_names, device_to_dict, load_device
from hwaware.hardware.encoding.mapping import MAPPINGS, Mapping

__all__ = [
    "MAPPINGS",
    "Device",
    "LogTimeDrift",
    "Mapping",
    "RelativeDrift",
    "device_file",
    "device_from_dict",
    "device_names",
    "device_to_dict",
    "load_device",
]
