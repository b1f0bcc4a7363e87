"""Presets: a device is a YAML file that names a family of laws and gives its constants.

A custom family is a frozen dataclass derived from :class:`~hwaware.hardware.devices.Device`, in any module that can be
imported (also from the working directory). Its name is ``module.Class``. Use it as the ``law`` of a device file or, if
all its constants have defaults, as a device by itself.

A file may also state, under ``encoding``, how its source encodes weights. Recipes use that as the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module, resources
from itertools import chain, repeat
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import yaml

from hwaware.errors import UserError, in_words, nearest, nearest_path
from hwaware.hardware.devices.bootstrap import Bootstrap
from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.laws.lognormal import LognormalSpread
from hwaware.hardware.devices.laws.pcm import PowerLawDecay
from hwaware.hardware.devices.laws.power_law import MirroredPowerLaw
from hwaware.hardware.devices.laws.relaxation import MeasuredRelaxation
from hwaware.hardware.devices.laws.retention import LogTimeDrift, RelativeDrift
from hwaware.hardware.devices.laws.state_drift import StateLogTimeDrift
from hwaware.hardware.devices.laws.state_variation import StateVariation
from hwaware.system.reading import parse_yaml, read_text

#: Families of laws by the name that device files use.
LAWS: dict[str, type[Device]] = {
    "log_time": LogTimeDrift,
    "state_log_time": StateLogTimeDrift,
    "relative": RelativeDrift,
    "measured_relaxation": MeasuredRelaxation,
    "power_law_decay": PowerLawDecay,
    "mirrored_power_law": MirroredPowerLaw,
    "lognormal": LognormalSpread,
    "state_variation": StateVariation,
}

#: The key of a device file for the encoding that its source uses.
ENCODING = "encoding"

#: Keys of the encoding that older device files have among the constants, and their new place.
_MOVED = {word: f"{ENCODING}: {{{word}: …}}" for word in ("mapping", "scale", "kappa", "range_fraction")} | {
    word: f"{ENCODING}: {{format: {{{word}: …}}}}" for word in ("levels", "bits", "slice_bits", "fraction_bits")
}

_PRESETS = resources.files("hwaware.hardware.devices") / "presets"


class DeviceFile(NamedTuple):
    """The contents of a device file.

    Attributes:
        constants: constants of the device, with its ``name`` and ``law``.
        encoding: settings of the encoding; empty if the file has none.
    """

    constants: dict[str, Any]
    encoding: dict[str, Any]

    def device(self, given: Mapping[str, Any]) -> Device:
        """Builds the device; constants in ``given`` replace the file's, and are then exact (not in ``bootstrap``).

        Raises:
            UserError: see :func:`device_from_dict`.
        """
        what = f"bootstrap of device '{self.constants.get('name')}'"
        bootstrap = typed(self.constants.get("bootstrap"), Bootstrap | None, what)
        kept = {} if bootstrap is None else {"bootstrap": bootstrap.without(set(given))}
        return device_from_dict({**self.constants, **kept, **given})


def device_names() -> list[str]:
    """Names of the presets that come with the package.

    Examples:
        >>> "reram_cmo" in device_names()
        True
    """
    return sorted(entry.name.removesuffix(".yaml") for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml"))


def load_device(name: str, **constants: Any) -> Device:
    """Loads a device: a preset, a YAML file of the same form, or a class.

    Args:
        name: one of :func:`device_names`, a path that ends in ``.yaml``, or ``module.Class``.
        constants: constants that replace those of the file, e.g. ``clamp="zero"``, ``temperature_c=85``.

    Raises:
        UserError: the name, the law or a constant is unknown, or a value is out of range.

    Examples:
        >>> device = load_device("reram_cmo", g_max_us=60.0)
        >>> device.name, device.g_min_us, device.g_max_us
        ('reram_cmo', 9.0, 60.0)
    """
    return read_device_file(name).device(constants)


def read_device_file(name: str) -> DeviceFile:
    """Reads a device file, by the names of :func:`load_device`.

    Raises:
        UserError: there is no such file, or it is not a device file.
    """
    if name in device_names():
        text, name_in_results = (_PRESETS / f"{name}.yaml").read_text(), name
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"there is no device file '{path}'. {nearest_path(path)}".rstrip())
        text, name_in_results = read_text(path, "device file"), path.stem
    elif _is_class_path(name):
        text, name_in_results = f"law: {name}", name.rpartition(".")[2]
    else:
        raise UserError(f"device '{name}' is unknown. {nearest(name, device_names())} A path must end in .yaml.")
    values = parse_yaml(text, f"device file '{name}'")
    if not isinstance(values, dict):
        raise UserError(f"device file '{name}' is not a table of parameters and values.")
    for word, place in _MOVED.items():
        if word in values:
            raise UserError(f"device file '{name}': '{word}' is not a constant of a device; write {place}.")
    if _is_class_path(values.get("law")):
        _import_law(values["law"])
    encoding = values.pop(ENCODING, None) or {}
    if not isinstance(encoding, dict):
        raise UserError(f"device file '{name}': {ENCODING} is not a table of keys and values.")
    return DeviceFile({"name": name_in_results, **values}, encoding)


def device_to_dict(device: Device) -> dict[str, Any]:
    """A device's law and parameters as plain types, in the form of a device file."""
    return {"law": next(name for name, law in _laws().items() if law is type(device)), **device.given()}


def device_file(device: Device, encoding: Mapping[str, Any] | None = None) -> str:
    """The text of a device file that reads back as this device, with the settings of an encoding if given."""
    values = device_to_dict(device) | ({ENCODING: dict(encoding)} if encoding else {})
    bootstrap = {key: values.pop(key) for key in ("bootstrap",) if key in values}
    text = yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True, width=1000)
    if bootstrap:  # last, one fit per line
        text += yaml.safe_dump(_plain(bootstrap), sort_keys=False, width=10_000, default_flow_style=None)
    return text


def device_from_dict(values: Mapping[str, Any]) -> Device:
    """Builds a device from the output of :func:`device_to_dict` or the contents of a device file.

    Raises:
        UserError: the law or a field is unknown, or a value is missing or out of range. A custom law must have been
            imported before. This function never imports one, because a downloaded file could name any module.
    """
    values, laws = dict(values), _laws()
    name, named = values.get("name"), values.pop("law", None)
    if not isinstance(named, str) or named not in laws:
        hint = "Import its module first." if _is_class_path(named) else nearest(str(named), laws)
        raise UserError(f"device '{name}' names the law '{named}', which is unknown. {hint}")
    law = laws[named]
    known, kinds = {field.name: field for field in fields(law)}, get_type_hints(law)
    for key in values:
        if key not in known:
            raise UserError(f"device '{name}' has no parameter '{key}'. {nearest(key, known)}")
    for key, field in known.items():
        if key in values:
            values[key] = typed(values[key], kinds[key], f"{key} of device '{name}'")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"device '{name}' lacks the parameter '{key}'.")
    return law(**values)


def typed(value: Any, kind: Any, what: str) -> Any:
    """Converts a value to the type of its field: text such as '1e-6' to a number, lists to tuples."""
    if get_origin(kind) in (Union, UnionType):
        return _one_of(value, get_args(kind), what)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UserError(f"{what}: {value!r} is unknown. {nearest(str(value), map(str, get_args(kind)))}")
        return value
    if (get_origin(kind) or kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{what}: {value!r} is not {in_words(kind)}.")
        inner = [one for one in get_args(kind) if one is not Ellipsis] or [Any]
        return tuple(typed(one, each, what) for one, each in zip(value, chain(inner, repeat(inner[0])), strict=False))
    if is_dataclass(kind):
        return _of_dataclass(value, kind, what)
    if isinstance(value, list | tuple) and kind in (float, int):
        raise UserError(f"{what}: {list(value)!r} is not {in_words(kind)}.")
    if kind is float:
        return _number(value, what)
    if kind is int:
        if not (number := _number(value, what)).is_integer():
            raise UserError(f"{what.replace(' of', f'={number} of', 1)} must be a whole number.")
        return int(number)
    if kind in (bool, str) and not isinstance(value, kind):
        raise UserError(f"{what}: {value!r} is not {in_words(kind)}.")
    return value


def _one_of(value: Any, kinds: Sequence[Any], what: str) -> Any:
    """Converts a value to the first type that fits; unchanged if it already has one of the types."""
    if type(value) in kinds:
        return value
    first: UserError | None = None
    for kind in kinds:
        if kind is not type(None):
            try:
                return typed(value, kind, what)
            except UserError as error:
                first = first or error
    assert first is not None  # there is no union of None alone
    raise first


def _of_dataclass(value: Any, kind: Any, what: str) -> Any:
    """Builds a dataclass from a table of keys and values."""
    if isinstance(value, kind):
        return value
    known, kinds = {field.name: field for field in fields(kind)}, get_type_hints(kind)
    if not isinstance(value, Mapping):
        raise UserError(f"{what}: {value!r} is not a table of keys and values, such as {{{min(known)}: …}}.")
    for key in value:
        if key not in known:
            raise UserError(f"{what} has no '{key}'. {nearest(key, known)}")
    for key, field in known.items():
        if key not in value and field.default is MISSING:
            raise UserError(f"{what} lacks '{key}'.")
    return kind(**{key: typed(one, kinds[key], f"{key} of {what}") for key, one in value.items()})


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UserError(f"{what}: {value!r} is not a number.") from None


def _plain(values: Any) -> Any:
    """Converts tuples to lists, which YAML writes without tags."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return list(map(_plain, values)) if isinstance(values, list | tuple) else values


def _laws() -> dict[str, type[Device]]:
    """The laws of this package, and imported custom laws as ``module.Class``."""
    found, classes = dict(LAWS), Device.__subclasses__()
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if cls not in LAWS.values():
            found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return found


def _is_class_path(name: Any) -> bool:
    return isinstance(name, str) and "." in name and all(map(str.isidentifier, name.split(".")))


def _import_law(path: str) -> None:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(imported := import_module(module), name, None)
    except ImportError as error:
        raise UserError(f"device '{path}' can't be imported: {error}.") from None
    if found is None:
        there = [key for key, one in vars(imported).items() if isinstance(one, type) and issubclass(one, Device)]
        raise UserError(f"device '{path}': module '{module}' has no '{name}'. {nearest(name, set(there) - {'Device'})}")
    if not (isinstance(found, type) and issubclass(found, Device)):
        raise UserError(f"'{path}' is not a device: it must be a class derived from hwaware.hardware.Device.")
    if found.__abstractmethods__:
        raise UserError(f"device '{path}' does not define {', '.join(sorted(found.__abstractmethods__))}.")
