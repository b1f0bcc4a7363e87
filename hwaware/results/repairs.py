"""Names of repairs: a short name in rows, tables and figures; the class name in recipes, which take both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Classes of :mod:`hwaware.compensation` by the short names in rows.
REPAIRS = {
    "bn_adabs": "BnAdaBs",
    "bn_adabs_difference": "BnAdaBsDifference",
    "bn_finetune": "BnFinetune",
    "bn_stats": "BnStats",
    "channel_affine": "ChannelAffine",
    "column_dc": "ColumnDriftCompensation",
    "dora": "Dora",
    "dora_lowrank": "DoraLowRank",
    "dora_magnitude": "DoraMagnitude",
    "gdc": "GlobalDriftCompensation",
    "ln_affine": "LnAffine",
    "lora": "Lora",
    "rsa": "RandomSparseAdaptation",
    "rvw": "ReadVerifyWrite",
    "threshold": "NullThreshold",
    "vera_plus": "VeraPlus",
}

#: Our variants of published methods, which have their own name in tables: the method, and the setting that differs.
VARIANTS = {
    "vera_plus_constant": ("vera_plus", "constant", True),
    "rsa_error": ("rsa", "mask", "error"),
}


def both_names(method: str) -> str:
    """A repair's short name with its class name.

    >>> both_names("vera_plus")
    'vera_plus (VeraPlus)'
    """
    return f"{method} ({REPAIRS[method]})" if method in REPAIRS else method


def with_classes(methods: Any) -> Any:
    """Replaces short names by class names in the ``methods`` of a recipe.

    >>> with_classes(["bn_stats", {"class_path": "rsa_error", "init_args": {"images": 10}}])
    ['BnStats', {'class_path': 'RandomSparseAdaptation', 'init_args': {'images': 10, 'mask': 'error'}}]
    """
    if isinstance(methods, list):
        return [with_classes(one) for one in methods]
    named = methods.get("class_path") if isinstance(methods, dict) else methods
    if named in VARIANTS:
        name, setting, value = VARIANTS[named]
        given = methods if isinstance(methods, dict) else {}
        settings = (given.get("init_args") or {}) | {setting: value}
        return {**given, "class_path": REPAIRS[name], "init_args": settings}
    if isinstance(named, str) and named in REPAIRS:
        return methods | {"class_path": REPAIRS[named]} if isinstance(methods, dict) else REPAIRS[named]
    return methods


def listed(methods: Iterable[str]) -> str:
    """The repairs of rows, each once, with both names; empty if there are none."""
    return ", ".join(both_names(one) for one in dict.fromkeys(methods) if one != "none")
