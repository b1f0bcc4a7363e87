"""Presets: a device is a YAML file that names a family of laws and gives its constants."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hwaware.devices.device import Device
from hwaware.devices.lognormal import LognormalSpread
from hwaware.devices.pcm import PowerLawDecay
from hwaware.devices.power_law import MirroredPowerLaw
from hwaware.devices.relaxation import MeasuredRelaxation
from hwaware.devices.retention import LogTimeDrift, RelativeDrift
from hwaware.errors import UserError, nearest

#: Families of laws by the name that device files use.
LAWS = {
    "log_time": LogTimeDrift,
    "relative": RelativeDrift,
    "measured_relaxation": MeasuredRelaxation,
    "power_law_decay": PowerLawDecay,
    "mirrored_power_law": MirroredPowerLaw,
    "lognormal": LognormalSpread,
}

_TEXTS = ("name", "source", "mapping", "scale", "clamp")

_PRESETS = resources.files("hwaware.devices") / "presets"


def device_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml"))


def load_device(name: str, **overrides: Any) -> Device:
    """A device by the name of a preset, or by the path of a YAML file of the same form.

    Args:
        name: one of :func:`device_names`, or a path that ends in ``.yaml``.
        overrides: fields to set otherwise, e.g. ``mapping="offset"``, ``scale="channel"``, ``kappa=None``.

    Raises:
        UserError: the name, the law or a field is unknown, or a value is out of range.
    """
    if name in device_names():
        text, name_in_results = (_PRESETS / f"{name}.yaml").read_text(), name
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"there is no device file '{path}'.")
        text, name_in_results = path.read_text(), path.stem
    else:
        raise UserError(f"device '{name}' is unknown. {nearest(name, device_names())} A path must end in .yaml.")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"device file '{name}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"device file '{name}' is no table of parameters and values.")
    return device_from_dict({"name": name_in_results, **values, **overrides})


def device_to_dict(device: Device) -> dict[str, Any]:
    """A device's law and all its parameters as plain types: what its YAML file would hold."""
    return {"law": next(name for name, law in LAWS.items() if law is type(device)), **device.given()}


def device_from_dict(values: dict[str, Any]) -> Device:
    """A device from what :func:`device_to_dict` or a device file gives.

    Raises:
        UserError: the law or a field is unknown, or a value is missing or out of range.
    """
    values = dict(values)
    name, named = values.get("name"), values.pop("law", None)
    if not isinstance(named, str) or named not in LAWS:
        raise UserError(f"device '{name}' names the law '{named}', which is unknown. {nearest(str(named), LAWS)}")
    law = LAWS[named]
    known = {field.name: field for field in fields(law)}
    for key in values:
        if key not in known:
            raise UserError(f"device '{name}' has no parameter '{key}'. {nearest(key, known)}")
    for key, field in known.items():
        if key not in values and field.default is MISSING:
            raise UserError(f"device '{name}' lacks the parameter '{key}'.")
        if key in values and key not in _TEXTS and not (values[key] is None and field.default is not MISSING):
            values[key] = _number(values[key], f"{key} of device '{name}'")
            if isinstance(values[key], tuple) != str(field.type).startswith("tuple"):
                wanted = "a number" if isinstance(values[key], tuple) else "a list of numbers"
                raise UserError(f"{key} of device '{name}' must be {wanted}.")
            if str(field.type).startswith("int"):
                if not values[key].is_integer():
                    raise UserError(f"{key}={values[key]} of device '{name}' must be a whole number.")
                values[key] = int(values[key])
    return law(**values)


def _number(value: Any, what: str) -> float | tuple:
    """YAML reads '1e-6' as text; a number it is. Lists of numbers become tuples."""
    if isinstance(value, list | tuple):
        return tuple(_number(one, what) for one in value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{what}: {value!r} is not a number.") from None
