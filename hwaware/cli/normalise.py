"""Normalises recipes and options: ages such as ``10y``, the home folder ``~``, short names of repairs, and
``evaluation.yield``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import yaml

from hwaware.errors import UserError
from hwaware.results.repairs import with_classes
from hwaware.system.reading import AGE, NotYamlError, parse_yaml, seconds

#: Python keywords, and the arguments that they stand for.
_KEPT = {"evaluation": {"yield": "yield_percent"}}


def normalise(value: Any, key: str = "") -> Any:
    """Plain values: ages under keys that end in ``_s`` in seconds, full paths, and repairs as classes.

    Raises:
        UserError: the value of such a key is not an age; the message names the key.
    """
    if key == "methods":
        value = with_classes(value)
    if isinstance(value, dict):
        kept = _KEPT.get(key, {})
        return {kept.get(name, name): normalise(one, str(name).removesuffix("+")) for name, one in value.items()}
    if isinstance(value, list):
        return [normalise(one, key) for one in value]
    if not isinstance(value, str):
        return value
    if key.endswith("_s") and AGE.fullmatch(value):
        try:
            return seconds(value)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    return os.path.expanduser(value) if value.startswith("~/") or value == "~" else value


def normalise_recipe(text: str) -> str:
    """A recipe's text, normalised; the same text if nothing changes."""
    content = parse_yaml(text, "recipe")
    normalised = normalise(content)
    return text if normalised == content else yaml.safe_dump(normalised, sort_keys=False, allow_unicode=True)


def normalise_options(arguments: Sequence[str]) -> list[str]:
    """A command line, normalised."""
    found: list[str] = []
    key = ""
    for word in arguments:
        if not word.startswith("--"):
            found.append(_option(key, word))
            continue
        option, equals, value = word.partition("=")
        section, _, last = option.rpartition(".")
        if (full := _KEPT.get(section.lstrip("-"), {}).get(last)) is not None:
            option, word = f"{section}.{full}", word.replace(option, f"{section}.{full}", 1)
        key = option.rpartition(".")[2].lstrip("-").removesuffix("+")
        found.append(f"{option}={_option(key, value)}" if equals else word)
    return found


def _option(key: str, text: str) -> str:
    try:
        value = parse_yaml(text, f"--{key}")
    except NotYamlError:
        value = text
    if isinstance(value, str):
        value = text
    normalised = normalise(value, key)
    if normalised == value:
        return text
    return normalised if isinstance(normalised, str) else json.dumps(normalised)
