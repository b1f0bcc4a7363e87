"""Explains in one line, reason first, why the parser refuses a command line.

jsonargparse answers with a tree of all types that it tried for a value. Here the given settings are checked again
instead, key by key, for the first one that is unknown or has a value of the wrong type.
"""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from inspect import isabstract
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import import_object

from hwaware.cli.hints import classes_of, is_list, keys_of, makes, options_of, parser_of, type_of
from hwaware.cli.renamed import moved
from hwaware.cli.settings import read_settings, refuse_joined
from hwaware.errors import UserError, in_words, nearest

#: Longest text of a table that a message repeats in full.
_LONG = 60

#: Contents of a table, by the end of its key.
_TABLES = {
    "encoding.format": "a table, such as {levels: 15}",
    "class_weights": "a weight for each class name (or number, if the data have no names): {cat: 1, dog: 4}",
}


def explain(parser: ArgumentParser, arguments: Sequence[str], error: ArgumentError) -> str:
    """One line for a command line that a command's parser refused.

    Args:
        parser: the command's parser.
        arguments: the arguments after the command's name.
        error: the parser's error.
    """
    settings, words = read_settings(arguments)
    try:
        _check_keys(parser, "", settings)
    except UserError as problem:
        return str(problem)
    if words:
        return f"'{words[0]}' does not belong to an option; give a recipe as --config RECIPE."
    if settings.get("model") is None:
        return "there is no recipe: give --config RECIPE (recipes/*.yaml)."
    for key, action in keys_of(parser).items():
        if action.required and key not in settings:
            return f"give --{key}: the output path." if key == "out" else _missing(key)
    cause: BaseException = error  # nothing of the above: the innermost of the parser's own reasons
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split())


def subclasses(cls: type[Any]) -> list[type]:
    """All imported classes that derive from a class."""
    return [one for sub in cls.__subclasses__() for one in (sub, *subclasses(sub))]


# Keys.


def _check_keys(parser: ArgumentParser, prefix: str, settings: Mapping[str, Any], owner: Any = None) -> None:
    """Raises UserError for an unknown key, or a value of the wrong type.

    Args:
        parser: parser of a command, or of a class's arguments.
        prefix: prefix of the parser's keys, with a dot.
        settings: values of its keys.
        owner: the class; None: a command.
    """
    actions = keys_of(parser)
    for key, value in _entries(settings, actions):
        if key not in actions:
            # Keys that are linked to another key have no option.
            known = [one for one, action in actions.items() if f"--{one}" in action.option_strings]
            raise UserError(moved(prefix + key, value) or unknown_key(prefix, key, known, owner and owner.__name__))
        if own := [prefix + one for one in actions if one.startswith(f"{key}.")]:
            shown = "null" if value is None else f"'{value}'"
            raise UserError(f"{prefix}{key}: {shown} is not a table of keys. It has {own[0]} and others.")
        if value is None and actions[key].required and owner is not None:
            raise UserError(_missing(prefix + key))
        check_value(prefix + key, type_of(actions[key]), value)
    for key, action in actions.items():
        if owner is not None and action.required and key not in settings:
            raise UserError(_missing(prefix + key))


def _entries(settings: Mapping[str, Any], known: Iterable[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values; as in a parser, a key may contain dots."""
    for part, value in settings.items():
        key = prefix + part
        if isinstance(value, dict) and any(one.startswith(f"{key}.") for one in known):
            yield from _entries(value, known, f"{key}.")
        elif key not in ("class_path", "dict_kwargs"):
            yield key, value


def unknown_key(prefix: str, key: str, known: Iterable[str], owner: str | None = None) -> str:
    """The error message for an unknown key.

    Args:
        prefix: prefix of the key, with a dot.
        key: the key.
        known: valid keys.
        owner: class whose arguments they are; None: they are the command's.
    """
    section, _, last = key.rpartition(".")
    siblings = [one for one in known if one.rpartition(".")[0] == section]
    names = [one.rpartition(".")[2] for one in siblings]
    if owner is not None:
        return f"{prefix}{key} is not a key of {owner}. {nearest(last, names)}"
    if not section or not siblings:
        return f"{key} is not a key. {nearest(key, siblings or {one.split('.')[0] for one in known})}"
    hint = nearest(last, names).replace("mean '", f"mean '{section}.")  # not before each name of a list
    return f"{key} is not a key. {hint}"


def _missing(key: str) -> str:
    return f"{key} is missing: set it in the recipe, or give --{key}."


# Values.


def check_value(key: str, hint: Any, value: Any) -> None:
    """Raises UserError for a value that is not of its key's type."""
    options = list(options_of(hint))
    classes, lists = list(classes_of(options)), [one for one in options if is_list(one)]
    if isinstance(value, list) and lists:
        for one in value:
            check_value(key, (*get_args(lists[0]), Any)[0], one)
    elif isinstance(value, dict) and classes:
        _check_class(key, classes, value)
    elif isinstance(value, dict) and not _accepts(hint, value):
        for kind in (get_args(one)[1] for one in options if get_origin(one) is dict):
            for part, one in value.items():
                check_value(f"{key}.{part}", kind, one)
        if any(True for one in lists for _ in classes_of(options_of((*get_args(one), Any)[0]))):
            raise UserError(f"{key} is a list: write [{_flow(value)}].")
        raise UserError(f"{key} takes a value, not a table of keys.")
    elif value is None and hint not in (None, Any) and NoneType not in get_args(hint):
        raise UserError(f"{key}: null is not allowed; leave the key out for its default.")
    elif value is not None and not _accepts(hint, value):
        if isinstance(value, str) and any(_found(value, base) for base, _ in classes):  # a class without its arguments
            return _check_class(key, classes, {"class_path": value})
        raise UserError(f"{key}: {_wrong(key, value, options)}")


def _accepts(hint: Any, value: Any) -> bool:
    """Whether the parser accepts a value for a type."""
    if hint is None:
        return True
    one = ArgumentParser(exit_on_error=False)
    one.add_argument("--value", type=hint)
    try:
        one.parse_object({"value": value})
    except ArgumentError:
        return False
    return True


def _wrong(key: str, value: Any, options: Sequence[Any]) -> str:
    """Why a word or number has none of some types, by the first of them."""
    if isinstance(value, str) and any(get_origin(one) is dict or is_dataclass(one) for one in options):
        refuse_joined(value, key)
    words = {str(word) for option in options if get_origin(option) is Literal for word in get_args(option)}
    if words:
        other = next((one for one in options if get_origin(one) is not Literal), None)
        or_else = f" Or give {_example(key, other)}." if other is not None else ""
        return f"'{value}' is unknown. {nearest(value, words)}{or_else}"
    first = next(iter(options), None)
    if is_list(first):
        return f"'{value}' is not a list; write [{value}]."
    if get_origin(first) is dict:
        wanted = f"give it as {key}.name {value}" if key.endswith("device") else f"write {key}.KEY {value}"
        return f"'{value}' is not a table of keys; {wanted}."
    if not (classes := list(classes_of([first]))):
        return f"'{value}' is not {in_words(first)}."
    cls = classes[0][0]
    if is_dataclass(cls):
        given = [f"{key}.{one.name}" for one in fields(cls)]
        needed = [f"{key}.{one.name}" for one in fields(cls) if one.default is one.default_factory is MISSING]
        few = needed or given
        keys = " and ".join(few) if len(few) <= 2 else f"some of its keys, such as {few[0]}"
        named = [f"it as {name} {value}" for name in (f"{key}.name", f"{key}.device.name") if _first(name, given)]
        return f"'{value}' is not a table of keys; give {named[0] if named else keys}."
    return _no_class(str(value), [cls])


def _example(key: str, option: Any) -> str:
    """What a value may be besides a word."""
    if get_origin(option) is dict:
        return next((example for end, example in _TABLES.items() if key.endswith(end)), "a table of keys")
    if is_dataclass(option):
        return f"some of its keys, such as {key}.{fields(option)[0].name}"
    return "a list" if is_list(option) else in_words(option)


def _flow(table: Any) -> str:
    """A table or value as typed on a command line; ``{…}`` if it is long."""
    text = " ".join(yaml.safe_dump(table, default_flow_style=True, sort_keys=False, allow_unicode=True).split())
    return text if len(text) <= _LONG else "{…}"


def _first(name: str, given: Sequence[str]) -> bool:
    """Whether a key, or the table that it is in, is one of those given."""
    return name in given or name.rpartition(".")[0] in given


# Classes.


def _check_class(key: str, classes: Sequence[tuple[type, int]], settings: Mapping[str, Any]) -> None:
    """Raises UserError for arguments that a class does not take; of several classes, the one that takes most."""
    name = settings.get("class_path")
    if not isinstance(name, str | None):
        raise UserError(f"{key}.class_path: {_flow(name)} is not the name of a class.")
    found = [(_found(name, base), later) if name else (base, later) for base, later in classes]
    bases = [base for base, _ in classes]
    if all(cls is not None and not makes(cls, base, later) for (cls, later), base in zip(found, bases, strict=True)):
        hint = "derive it from that class" if isinstance(found[0][0], type) else "give the name of one"
        raise UserError(f"{key}: '{name}' is not a subclass of {bases[0].__name__}: {hint}.")
    parsers = [(cls, parser_of(cls, later)) for cls, later in found if cls is not None and not isabstract(cls)]
    if not parsers:
        raise UserError(f"{key}: {_no_class(name, bases)}")
    cls, parser = max(parsers, key=lambda one: sum(action.dest in settings for action in one[1]._actions))
    _check_keys(parser, f"{key}.", settings, cls)


def _found(name: str, base: type) -> Any:
    """A class by its path, or a subclass of a base class by its name; None if there is none."""
    if "." not in name:
        return next((one for one in (base, *subclasses(base)) if one.__name__ == name), None)
    try:
        return import_object(name)
    except (ImportError, AttributeError, ValueError) as error:
        module = getattr(error, "name", None)
        if isinstance(error, ImportError) and not f"{name}.".startswith(f"{module}."):  # its own imports fail
            lacks = f"it needs the module '{module}'" if isinstance(error, ModuleNotFoundError) else error
            raise UserError(f"'{name}' can't be imported: {lacks}.") from None
        return None


def _no_class(name: str | None, bases: Iterable[type]) -> str:
    known = {one.__name__: one for base in bases for one in subclasses(base) if not one.__name__.startswith("_")}
    if not name:
        return f"give the name of a class as class_path. {nearest('', known)}".rstrip()
    short = (one for one, found in known.items() if getattr(found, "name", None) == name.lower())
    return f"there is no class '{name}'. {nearest(next(short, name.rpartition('.')[2]), known)}"
