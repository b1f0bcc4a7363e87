"""Presets: a device is a YAML file that names a family of laws and gives its constants."""

from __future__ import annotations

from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hwaware.devices.device import Device
from hwaware.devices.retention import LAWS
from hwaware.errors import UserError, nearest

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
    return {"law": next(name for name, law in LAWS.items() if law is type(device)), **asdict(device)}


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
    known = {field.name for field in fields(law)}
    for key in values:
        if key not in known:
            raise UserError(f"device '{name}' has no parameter '{key}'. {nearest(key, known)}")
    try:
        return law(**{key: value if key in _TEXTS else _number(value) for key, value in values.items()})
    except TypeError as error:  # a constant is missing, or a text stands where a number belongs
        raise UserError(f"device '{name}': {str(error).removeprefix(law.__name__ + '.__init__() ')}.") from None


def _number(value: Any) -> Any:
    """YAML reads '1e-6' as text; a number it is."""
    try:
        return float(value) if not isinstance(value, bool) and value is not None else value
    except (TypeError, ValueError):
        return value
