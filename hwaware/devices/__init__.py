"""Device physics: mapping, programming error, drift, read noise, stuck cells, I-V curve."""

from hwaware.devices.conductance import MAPPINGS, Mapping
from hwaware.devices.device import Device
from hwaware.devices.registry import device_file, device_from_dict, device_names, device_to_dict, load_device
from hwaware.devices.retention import LogTimeDrift, RelativeDrift

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
