"""Renamed keys of recipes. An error for an old key gives the new one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_FORMAT = "model.hardware.encoding.format"

#: Old keys of a code, which are now one key.
_CODES = tuple(f"model.device.overrides.{key}" for key in ("bits", "slice_bits", "fraction_bits"))

#: What replaces each old key; ``%s`` stands for its value.
_MOVED = {
    "model.device": "model.hardware",
    "model.device.name": "model.hardware.device.name",
    "model.device.clamp": "model.hardware.device.clamp",
    "model.device.mapping": "model.hardware.encoding.mapping",
    "model.device.scale": "model.hardware.encoding.scale",
    "model.device.kappa": "model.hardware.encoding.kappa",
    "model.device.range_fraction": "model.hardware.encoding.range_fraction",
    "model.device.overrides": "model.hardware.device",
    "model.device.overrides.levels": f"{_FORMAT} {{levels: %s}}",
    **dict.fromkeys(_CODES, f"{_FORMAT} {{%s}}"),
    "model.hardware.encoding.levels": f"{_FORMAT} {{levels: %s}}",
    "model.hardware.encoding.bits": f"{_FORMAT} {{bits: %s, slice_bits: 2}}",
    "model.converters": "model.hardware.crossbar.converters",
    "model.exclude": "model.hardware.layers [{match: %s, digital: true}]",
    "model.include": "model.hardware.others_digital true and model.hardware.layers [{match: %s}]",
    "model.keep_digital": "model.hardware.keep_digital",
    "evaluation.devices": "evaluation.hardware [{device: {name: NAME}, encoding: {mapping: MAPPING}}]",
}

#: Old tables whose keys are the same in the new table.
_TABLES = ("model.device.overrides", "model.converters", "model.keep_digital")


def moved(key: str, value: Any = None) -> str | None:
    """What to write instead of an old key, in one line; None if the key never existed.

    Args:
        key: key with its sections, without ``init_args``.
        value: its value. A table stands for the keys in it.
    """
    if not _is_old(key):
        return None
    found = [(old, one) for old, one in _entries(key, value) if _is_old(old)] or [(key, value)]
    code = _code({old.rpartition(".")[2]: one for old, one in found if old in _CODES})
    new = dict.fromkeys(_new(old, code if old in _CODES else one) for old, one in found)
    return f"{', '.join(old for old, _ in found)} moved: write {', '.join(new)}."


def _is_old(key: str) -> bool:
    return key in _MOVED or key.rpartition(".")[0] in _TABLES


def _entries(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key in ("model.device", *_TABLES) and isinstance(value, dict):
        for part, one in value.items():
            yield from _entries(f"{key}.{part}", one)
    else:
        yield key, value


def _code(given: Mapping[str, Any]) -> str:
    """The text of a code: the given values, else the usual ones; slices divide the bits."""
    words = {"bits": 8, "slice_bits": 2} | {key: "..." if one is None else one for key, one in given.items()}
    if "slice_bits" not in given and str(words["bits"]).endswith(tuple("13579")):
        words["slice_bits"] = 1
    return ", ".join(f"{key}: {one}" for key, one in words.items())


def _new(key: str, value: Any) -> str:
    if key not in _MOVED:
        table, _, last = key.rpartition(".")
        return f"{_MOVED[table]}.{last}"
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else "..." if value is None else str(value)
    off = " null" if key == "model.device" and value is None else ""
    return _MOVED[key].replace("%s", text) + off
