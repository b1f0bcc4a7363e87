"""The keys of a command's parser, and their types."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser


def keys_of(parser: ArgumentParser) -> dict[str, Action]:
    """A parser's actions by key, without those that print help."""
    return {one.dest: one for one in parser._actions if one.dest.rpartition(".")[2] not in ("help", "print_config")}


def type_of(action: Action) -> Any:
    return getattr(action, "_typehint", action.type)


def options_of(hint: Any) -> Iterator[Any]:
    """The types of a union, without None."""
    if get_origin(hint) in (Union, UnionType):
        for one in get_args(hint):
            yield from options_of(one)
    elif hint is not NoneType:
        yield hint


def is_list(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    plain = isinstance(origin, type) and origin.__module__ in ("builtins", "collections.abc")
    return plain and issubclass(origin, Iterable) and not issubclass(origin, str | Mapping)


def is_function(hint: Any) -> bool:
    return (get_origin(hint) or hint) is Callable


def classes_of(options: Iterable[Any]) -> Iterator[tuple[type, int]]:
    """Classes that a value may be built from, and how many of their arguments the caller gives later."""
    for one in options:
        if is_function(one):
            given, made = get_args(one) or ((), Any)
            later = 0 if given is Ellipsis else len(given)
            yield from ((cls, later) for cls, _ in classes_of(options_of(made)))
        elif isinstance(one, type) and one is not Any and one.__module__ != "builtins" and not is_list(one):
            yield one, 0


def parser_of(cls: Any, later: int) -> ArgumentParser:
    """A parser of a class's arguments, including those that it passes on to its base class."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(cls, type) else parser.add_function_arguments
    add(cls, fail_untyped=False, skip={later} if later else None)
    return parser


def makes(found: Any, base: type, later: int) -> bool:
    """Whether a class derives from another, or a function that is called now returns such a class.

    Args:
        found: class or function.
        base: the required class.
        later: number of arguments that are given later; a function in a class's place would not get them.
    """
    if not isinstance(found, type) and not later:
        try:
            found = get_type_hints(found).get("return")
        except (TypeError, NameError):  # without annotations, or with unknown names in them
            return False
    return isinstance(found, type) and issubclass(found, base)
