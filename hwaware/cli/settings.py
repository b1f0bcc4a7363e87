"""The settings of a command line, recipes and options together, as one table of plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hwaware.cli.normalise import normalise
from hwaware.cli.recipes import with_ancestors
from hwaware.errors import UserError
from hwaware.system.reading import NotYamlError, parse_yaml, read_yaml

_RECIPE = ("config", "c")

#: A key and a value without the space that YAML requires; a slash after the colon means a path or an address.
_JOINED = re.compile(r"\{?([^\s:{}\[\],'\"]+):([^\s:{}\[\],/\\]+)\}?")

#: Options without a value.
_FLAGS = ("help", "h", "print_config")


def read_settings(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings, and the words that do not belong to an option.

    The later of two values wins, as in the parser. A class is a table of its arguments with its name as ``class_path``:
    there is no ``init_args`` between them.

    Args:
        arguments: the arguments after the command's name.

    Raises:
        UserError: a recipe can't be read, or a value is beyond the limits of :mod:`hwaware.system.reading`.
    """
    settings: dict[str, Any] = {}
    words, left = [], list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        key, equals, value = word.lstrip("-").partition("=")
        if not equals and key not in _FLAGS and left and not left[0].startswith("--"):
            value = left.pop(0)
        if key in _RECIPE:
            for path in with_ancestors(value):
                _merge(settings, normalise(read_yaml(path, "recipe") or {}))
        elif key not in _FLAGS and not key.endswith(".help"):
            _put(settings, key.split("."), _plain(key, value))
    return settings, words


def _plain(key: str, text: str) -> Any:
    """Tables, lists and null, parsed as YAML; everything else stays text, which the parser converts."""
    try:
        value = parse_yaml(text, f"--{key}")
    except NotYamlError:
        return text
    return _flattened(value) if value is None or isinstance(value, dict | list) else text


def _flattened(value: Any) -> Any:
    """Without ``init_args``."""
    if isinstance(value, list):
        return [_flattened(one) for one in value]
    if not isinstance(value, dict):
        return value
    for key, one in value.items():
        if one is None:
            refuse_joined(str(key))
    table = {str(key): _flattened(one) for key, one in value.items()}
    arguments = table.pop("init_args", None) or {}
    if not isinstance(arguments, dict):
        raise UserError(f"init_args of '{table.get('class_path')}': {arguments!r} is not a table of keys.")
    return table | arguments


def refuse_joined(text: str, key: str = "") -> None:
    """Raises UserError for a key and value that YAML reads as one text: ``bad:4``.

    Args:
        text: a key without a value, or a value instead of a table.
        key: key of the value, for the message.
    """
    if found := _JOINED.fullmatch(text):
        name, value = found.groups()
        where = f"{key}: " if key else ""
        raise UserError(f"{where}'{name}:{value}' lacks a space after the colon: write {{{name}: {value}}}.")


def _merge(table: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in _flattened(more).items():
        _put(table, [key], value)


def _put(table: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, key = (part for part in path if part != "init_args")
    for part in above:
        table[part] = _table(table.get(part))
        table = table[part][-1] if isinstance(table[part], list) else table[part]
    old = table.get(key)
    if key.endswith("+"):  # appends
        key = key.removesuffix("+")
        table[key] = [*(table.get(key) or []), *(value if isinstance(value, list) else [value])]
    elif isinstance(value, dict) and isinstance(old, dict) and value.get("class_path") in (None, old.get("class_path")):
        _merge(old, value)
    else:
        table[key] = value


def _table(value: Any) -> Any:
    """The table of keys below a value: a class name becomes a table; of a list, the last element."""
    if isinstance(value, list) and value:
        return [*value[:-1], _table(value[-1])]
    return value if isinstance(value, dict) else {"class_path": value} if isinstance(value, str) else {}
