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
    """Raises UserError for a class that is not of its key's type, or a function whose annotation returns none.

    Args:
        parser: parser of a command, or of a class's arguments.
        config: the configuration that it parsed.
        prefix: prefix of its keys, with a dot.
    """
    for key, action in keys_of(parser).items():
        if key in config and type_of(action) is not None:  # otherwise a section, whose keys follow
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
        raise UserError(
            f"{key}: '{name}' is a function, not a class. A recipe names classes: write a class that calls it."
        )


def _check_class(key: str, options: list[Any], value: Namespace) -> None:
    bases = dict(classes_of(options))
    made = import_object(value.class_path)
    base = next((one for one, later in bases.items() if makes(made, one, later)), None)
    if base is None:
        wanted = " or ".join(one.__name__ for one in bases)
        problem = (
            f"is not a subclass of {wanted}: give the name of one"
            if bases
            else "is a class, which this key doesn't take"
        )
        raise UserError(f"{key}: '{value.class_path}' {problem}.")
    for part in ("init_args", "dict_kwargs"):
        if not isinstance(value.get(part), Namespace | Mapping | None):
            raise UserError(f"{key}.{part}: {value[part]!r} is not a table of keys.")
    arguments = value.get("init_args")
    if isinstance(arguments, Namespace):
        check_classes(parser_of(made, bases[base]), arguments, f"{key}.")
