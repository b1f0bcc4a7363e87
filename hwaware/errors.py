"""Errors caused by the user, and helpers for their messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin


class UserError(ValueError):
    """A mistake of the user; the message explains it in one or two lines, the reason first.

    The command line prints it without a traceback and exits with 2.

    Examples:
        >>> import hwaware
        >>> try:
        ...     hwaware.load_device("reram_cmoo")
        ... except hwaware.UserError as error:
        ...     print(error)
        device 'reram_cmoo' is unknown. Did you mean 'reram_cmo'? A path must end in .yaml.
    """


#: Names of types in messages, singular and plural.
_KINDS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
}

#: A longer list of names would bury the reason.
_FEW = 15


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint that names the closest of ``options``, or all of them if none is close and they are few."""
    options = sorted(options)
    few = len(options) <= _FEW
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5 if few else 0.0)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Choose one of: {', '.join(options)}." if options and few else ""


def nearest_yaml(path: Path) -> str:
    """:func:`nearest` for a missing file, among the YAML files in its folder."""
    return nearest(path.name, (file.name for file in path.parent.glob("*.yaml")))


def nearest_path(path: str | Path) -> str:
    """A hint for a file or folder that is not there: what is called alike where the path ends to exist.

    Examples:
        >>> nearest_path("/dev/nul")
        "Did you mean '/dev/null'?"
    """
    path = Path(path)
    there = next((one for one in path.parents if one.is_dir()), None)
    if there is None:
        return ""
    missing, *below = path.relative_to(there).parts
    try:
        names = sorted(one.name for one in there.iterdir() if not one.name.startswith("."))
    except OSError:  # a folder that can't be read has no names to offer
        return ""
    close = difflib.get_close_matches(missing, names, n=1)
    if close:
        whole = Path(there, close[0], *below)
        return f"Did you mean '{whole if whole.exists() else there / close[0]}'?"
    if below:
        return f"There is no '{there / missing}'."
    return f"'{there}' has: {', '.join(names)}." if 0 < len(names) <= _FEW else ""


def in_words(kind: Any) -> str:
    """The name of a type in messages: ``a whole number``, ``a list of numbers``."""
    return _called(kind)[0]


def _called(kind: Any) -> tuple[str, str]:
    """The name of a type, singular and plural."""
    if (get_origin(kind) or kind) is not tuple:
        name = getattr(kind, "__name__", str(kind))
        return _KINDS.get(kind, (f"of the type {name}", f"values of the type {name}"))
    inner = (*get_args(kind), Any)[0]
    several = "values" if inner is Any else _called(inner)[1]
    return f"a list of {several}", f"lists of {several}"
