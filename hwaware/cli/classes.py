"""Checks that a configuration names only classes that its keys allow, before anything is called.

jsonargparse checks a class against the type of its key, but calls any function that is given instead of a class, for
example one that runs a command. It also accepts any function for a key of a callback or logger that asks for one; such
keys keep their defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import import_object

from hwaware.cli.hints import classes_of, is_list, keys_of, makes, options_of, parser_of, type_of
from hwaware.errors import UserError


def check_classes(parser: ArgumentParser, config: Namespace, prefix: str = "") -> None:
    """Raises UserError for a class that its key does not ask for, or a function that does not say that it makes one.

    Args:
        parser: of a command, or of a class's arguments.
        config: what it parsed.
        prefix: what stands before its keys, with a dot.
    """
    for key, action in keys_of(parser).items():
        if key in config and type_of(action) is not None:  # else what holds keys that follow
            if not (callable(config[key]) and config[key] is action.default):
                _check(prefix + key, type_of(action), config[key])


def _check(key: str, hint: Any, value: Any) -> None:
    options = list(options_of(hint))
    if isinstance(value, Mapping | Namespace) and "class_path" in value:
        _check_class(key, options, Namespace(**vars(value)) if isinstance(value, Namespace) else Namespace(**value))
    elif isinstance(value, list | tuple):
        inner = next((get_args(one) for one in options if is_list(one)), ()) or (Any,)
        for one in value:
            _check(key, inner[0], one)
    elif isinstance(value, Namespace):  # the arguments of the one class that it can be, or of a dataclass
        made = [cls for cls, _ in classes_of(options)]
        if made:
            check_classes(parser_of(made[0], 0), value, f"{key}.")
        else:
            _check(key, hint, vars(value))
    elif isinstance(value, Mapping):
        inner = next((get_args(one)[1:] for one in options if get_origin(one) is dict), ()) or (Any,)
        for part, one in value.items():
            _check(f"{key}.{part}", inner[0], one)
    elif callable(value) and not any(True for _ in classes_of(options)):
        name = f"{value.__module__}.{value.__qualname__}"
        raise UserError(f"{key}: '{name}' is a function: a recipe names classes; derive one that calls it.")


def _check_class(key: str, options: list[Any], value: Namespace) -> None:
    bases = dict(classes_of(options))
    made = import_object(value.class_path)
    base = next((one for one, later in bases.items() if makes(made, one, later)), None)
    if base is None:
        wanted = " or ".join(one.__name__ for one in bases)
        asked = f"is no {wanted}: give the name of such a class" if bases else "stands where no class is asked for"
        raise UserError(f"{key}: '{value.class_path}' {asked}.")
    for part in ("init_args", "dict_kwargs"):
        if not isinstance(value.get(part), Namespace | Mapping | None):
            raise UserError(f"{key}.{part}: {value[part]!r} is no table of keys.")
    arguments = value.get("init_args")
    if isinstance(arguments, Namespace):
        check_classes(parser_of(made, bases[base]), arguments, f"{key}.")
