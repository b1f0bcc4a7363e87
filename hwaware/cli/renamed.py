"""Keys of recipes that have new names. The old ones are refused, with the new ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_FORMAT = "model.hardware.encoding.format"
_CODES = f"{_FORMAT} {{bits: 8, slice_bits: 2, fraction_bits: 6}}"

#: From an old key to what is written in its place; ``%s`` stands for its value.
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
    "model.device.overrides.bits": _CODES,
    "model.device.overrides.slice_bits": _CODES,
    "model.device.overrides.fraction_bits": _CODES,
    "model.converters": "model.hardware.crossbar.converters",
    "model.exclude": "model.hardware.layers [{match: %s, digital: true}]",
    "model.include": "model.hardware.others_digital true and model.hardware.layers [{match: %s}]",
    "model.keep_digital": "model.hardware.keep_digital",
    "evaluation.devices": "evaluation.hardware [{device: {name: NAME}, encoding: {mapping: MAPPING}}]",
}

#: Old keys all of whose own keys are those of the new one.
_TABLES = ("model.device.overrides", "model.converters", "model.keep_digital")


def moved(key: str, value: Any = None) -> str | None:
    """What to write instead of a key that the parser lacks, in one line; None for one that it never had.

    Args:
        key: with its sections, without ``init_args``.
        value: what it is set to. A table stands for the keys in it.
    """
    if not _is_old(key):
        return None
    found = [(old, one) for old, one in _entries(key, value) if _is_old(old)] or [(key, value)]
    new = dict.fromkeys(_new(old, one) for old, one in found)  # the three keys of a code are one now
    return f"{', '.join(old for old, _ in found)} moved: write {', '.join(new)}."


def _is_old(key: str) -> bool:
    return key in _MOVED or key.rpartition(".")[0] in _TABLES


def _entries(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if key in ("model.device", *_TABLES) and isinstance(value, dict):
        for part, one in value.items():
            yield from _entries(f"{key}.{part}", one)
    else:
        yield key, value


def _new(key: str, value: Any) -> str:
    if key not in _MOVED:
        table, _, last = key.rpartition(".")
        return f"{_MOVED[table]}.{last}"
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else "..." if value is None else str(value)
    off = " null" if key == "model.device" and value is None else ""
    return _MOVED[key].replace("%s", text) + off
