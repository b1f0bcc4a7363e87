"""Builds hardware from a device's name and settings, and from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from hwaware.errors import UserError, nearest
from hwaware.hardware.crossbar import Converters, Crossbar, Wires
from hwaware.hardware.devices import device_from_dict, read_device_file
from hwaware.hardware.devices.registry import DeviceFile, typed
from hwaware.hardware.encoding import MAPPING_NAMES, Codes, Encoding, Levels, import_mapping, number_format
from hwaware.hardware.hardware import Hardware
from hwaware.hardware.placement import Placement, Rule

_ENCODING = tuple(field.name for field in fields(Encoding))
_FORMAT = tuple(field.name for kind in (Levels, Codes) for field in fields(kind))
_CROSSBAR = tuple(field.name for field in fields(Crossbar))

#: Words in recipes and device files, and the values that they stand for.
_WORDS: dict[str, tuple[str, Any]] = {"kappa": ("linear", None), "format": ("continuous", {})}


def load_hardware(name: str, **settings: Any) -> Hardware:
    """Builds hardware from a device file and the settings that differ from it.

    Args:
        name: name of a device; see :func:`hwaware.load_device`.
        settings: settings by the names that results use: constants of the device (``temperature_c=85``), settings of
            the encoding (``mapping="offset"``, ``scale="channel"``, ``kappa="linear"``, ``levels=15``) and of the
            crossbar (``columns=128``, ``converters=Converters(adc_bits=8)``).

    Raises:
        UserError: a name is unknown or a value is out of range.

    Examples:
        >>> hardware = load_hardware("reram_cmo", mapping="offset", rows=256, g_max_us=60.0)
        >>> hardware.encoding.mapping, hardware.crossbar.rows, hardware.device.g_max_us
        ('offset', 256, 60.0)
    """
    words: dict[str, Any] = {key: settings.pop(key) for key in _ENCODING if key in settings}
    if grid := {key: settings.pop(key) for key in _FORMAT if key in settings}:
        words["format"] = grid
    array = {key: settings.pop(key) for key in _CROSSBAR if key in settings}
    return build_hardware({"name": name, **settings}, words, Crossbar(**array))


def build_hardware(
    device: Mapping[str, Any],
    words: Mapping[str, Any],
    crossbar: Crossbar,
    read: Callable[[str], DeviceFile] = read_device_file,
) -> Hardware:
    """Builds hardware from a device, settings of the encoding that differ from the device file's, and a crossbar.

    Args:
        device: the device's ``name``, and constants that differ from its file.
        words: settings of the encoding.
        crossbar: the crossbar.
        read: reads the device file of a name.

    Raises:
        UserError: a name is unknown or a value is out of range.
    """
    constants = dict(device)
    file = read(constants.pop("name"))
    for key in constants:
        if key in (*_ENCODING, *_FORMAT, *_CROSSBAR):
            raise UserError(f"'{key}' is not a constant of a device: give it as {_place(key)}.")
    built = file.device(constants)
    if isinstance(words.get("format"), Mapping) and words["format"]:
        words = {**words, "format": _format_over(file.encoding.get("format"), words["format"])}
    return Hardware(device=built, encoding=build_encoding(file.encoding | dict(words)), crossbar=crossbar)


def build_encoding(words: Mapping[str, Any]) -> Encoding:
    """Builds an encoding from the settings of a recipe or a device file; imports the module of a custom mapping.

    Raises:
        UserError: a key is unknown, or a value is out of range.
    """
    words = dict(words)
    for key, (word, plain) in _WORDS.items():
        if words.get(key) == word:
            words[key] = plain
    mapping = words.get("mapping")
    if isinstance(mapping, str) and mapping not in MAPPING_NAMES and "." in mapping:
        import_mapping(mapping)
    return _encoding(words)


def hardware_from_plain(plain: Mapping[str, Any]) -> Hardware:
    """Builds hardware from the output of :meth:`Hardware.plain`.

    Raises:
        UserError: a value is missing, unknown or out of range. Custom laws and mappings must have been imported before.
            This function never imports them, because a downloaded file could name any module.
    """
    _check_words(plain, Hardware, "hardware")
    _check_lacking(plain, [field.name for field in fields(Hardware)], "hardware")
    for part, value in plain.items():
        if not isinstance(value, Mapping):
            raise UserError(f"hardware.{part}={value!r} is not a table of keys and values.")
    array = dict(plain["crossbar"])
    if (converters := array.pop("converters", None)) is not None:
        converters = Converters(**_typed(converters, Converters, "the table converters"))
    if (wires := array.pop("wires", None)) is not None:
        wires = Wires(**_typed(wires, Wires, "the table wires"))
    return Hardware(
        device=device_from_dict(plain["device"]),
        encoding=_encoding(plain["encoding"]),
        crossbar=Crossbar(**_typed(array, Crossbar, "the crossbar"), converters=converters, wires=wires),
    )


def placement_from_plain(plain: Mapping[str, Any]) -> Placement:
    """Builds a placement from the output of :meth:`Placement.plain`, or from older files with one flat device.

    Raises:
        UserError: see :func:`hardware_from_plain`.
    """
    if "device" in plain:
        converters = plain.get("converters")
        hardware = hardware_from_flat(plain["device"], None if converters is None else Converters(**converters))
        exclude, include = tuple(plain.get("exclude", ())), tuple(plain.get("include", ("*",)))
        if include == ("*",):
            return Placement(hardware, (Rule(exclude, None),) if exclude else ())
        return Placement(None, (Rule(include, hardware),), exclude)

    def of(one: Mapping[str, Any] | None) -> Hardware | None:
        return None if one is None else hardware_from_plain(one)

    _check_lacking(plain, ("default", "layers", "digital"), "a placement")
    for rule in plain["layers"]:
        _check_lacking(rule, ("match", "hardware"), "a rule of a placement")
    rules = tuple(Rule(tuple(rule["match"]), of(rule["hardware"])) for rule in plain["layers"])
    return Placement(of(plain["default"]), rules, tuple(plain["digital"]))


def hardware_from_flat(values: Mapping[str, Any], converters: Converters | None = None) -> Hardware:
    """Builds hardware from the flat device of older files, which also contains the encoding."""
    constants = dict(values)
    words = {key: constants.pop(key) for key in _ENCODING if key in constants}
    grid = {key: value for key in _FORMAT if (value := constants.pop(key, None)) is not None}
    return Hardware(
        device=device_from_dict(constants),
        encoding=_encoding({**words, "format": grid} if grid else words),
        crossbar=Crossbar(converters=converters),
    )


def _encoding(words: Mapping[str, Any]) -> Encoding:
    grid: dict[str, Any] = {"format": number_format(words["format"] or {})} if "format" in words else {}
    values = {key: value for key, value in words.items() if key != "format"}
    return Encoding(**_typed(values, Encoding, "the encoding"), **grid)


def _format_over(file: Any, words: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a format over those of the device file if both are of one kind; None removes a setting."""
    # Levels of a cell and of a weight are two ways to state one number.
    kinds = [{"levels"}, {"cell_levels"}, {field.name for field in fields(Codes)}]
    of_file = file if isinstance(file, Mapping) else {}  # or the word 'continuous'
    kept = {key: value for key, value in of_file.items() if any({key, *words} <= kind for kind in kinds)}
    return {key: value for key, value in {**kept, **words}.items() if value is not None}


def _typed(words: Mapping[str, Any], cls: type, what: str) -> dict[str, Any]:
    """Converts values to the types of a class's fields; UserError for an unknown key or an invalid value."""
    _check_words(words, cls, what)
    kinds = get_type_hints(cls)
    return {key: typed(value, kinds[key], f"{key} of {what}") for key, value in words.items()}


def _check_words(words: Mapping[str, Any], cls: type, what: str) -> None:
    """Raises UserError for a key that is not a field of a class."""
    known = [field.name for field in fields(cls)]
    for word in words:
        if word not in known:
            raise UserError(f"{what} has no '{word}'. {nearest(word, known)}")


def _check_lacking(plain: Mapping[str, Any], needed: Sequence[str], what: str) -> None:
    if lacking := [key for key in needed if key not in plain]:
        raise UserError(f"{what} has no '{lacking[0]}': it is needed.")


def _place(key: str) -> str:
    place = "encoding.format" if key in _FORMAT else "encoding" if key in _ENCODING else "crossbar"
    return f"{place}.{key}"
