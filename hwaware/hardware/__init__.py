"""The hardware that holds a network: devices, encodings, crossbars, and the hardware of each layer."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwaware.hardware.crossbar import Converters, Crossbar, Ranges, RowPart, Tiling, Wires
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
    "RowPart",
    "Rule",
    "Tiling",
    "Wires",
    "device_names",
    "hardware_from_flat",
    "hardware_from_plain",
    "import_mapping",
    "load_device",
    "load_hardware",
    "placement_from_plain",
]

_HOMES = {
    "Codes": "hwaware.hardware.encoding",
    "Continuous": "hwaware.hardware.encoding",
    "Converters": "hwaware.hardware.crossbar",
    "Crossbar": "hwaware.hardware.crossbar",
    "CrossbarOptions": "hwaware.hardware.options",
    "Device": "hwaware.hardware.devices",
    "Encoding": "hwaware.hardware.encoding",
    "EncodingOptions": "hwaware.hardware.options",
    "Hardware": "hwaware.hardware.hardware",
    "HardwareOptions": "hwaware.hardware.options",
    "KeepDigital": "hwaware.hardware.options",
    "LayerOptions": "hwaware.hardware.options",
    "Levels": "hwaware.hardware.encoding",
    "Mapping": "hwaware.hardware.encoding",
    "Placement": "hwaware.hardware.placement",
    "Ranges": "hwaware.hardware.crossbar",
    "RowPart": "hwaware.hardware.crossbar",
    "Rule": "hwaware.hardware.placement",
    "Tiling": "hwaware.hardware.crossbar",
    "Wires": "hwaware.hardware.crossbar",
    "device_names": "hwaware.hardware.devices",
    "hardware_from_flat": "hwaware.hardware.load",
    "hardware_from_plain": "hwaware.hardware.load",
    "import_mapping": "hwaware.hardware.encoding",
    "load_device": "hwaware.hardware.devices",
    "load_hardware": "hwaware.hardware.load",
    "placement_from_plain": "hwaware.hardware.load",
}


def __getattr__(name: str) -> Any:
    # Imported lazily, so that `hwaware.results` can use `temperature` without torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hwaware.hardware' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
