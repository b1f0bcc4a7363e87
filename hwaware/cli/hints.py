"""The keys of a command's parser, and their types."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser


def keys_of(parser: ArgumentParser) -> dict[str, Action]:
    """What a parser takes by what it is called, without the ways to ask for help."""
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
    """Classes that a value may be made of, and how many of their arguments come later, from who calls them."""
    for one in options:
        if is_function(one):
            given, made = get_args(one) or ((), Any)
            later = 0 if given is Ellipsis else len(given)
            yield from ((cls, later) for cls, _ in classes_of(options_of(made)))
        elif isinstance(one, type) and one is not Any and one.__module__ != "builtins" and not is_list(one):
            yield one, 0


def parser_of(cls: Any, later: int) -> ArgumentParser:
    """Of what a class takes, what it only passes on to its base class included."""
    parser = ArgumentParser(exit_on_error=False)
    add = parser.add_class_arguments if isinstance(cls, type) else parser.add_function_arguments
    add(cls, fail_untyped=False, skip={later} if later else None)
    return parser


def makes(found: Any, base: type, later: int) -> bool:
    """Whether a class is derived from another; or a function says that it returns one that is, and is called now.

    Args:
        found: class or function.
        base: what is wanted.
        later: arguments that come later: with a function and arguments in a class's place, they would not.
    """
    if not isinstance(found, type) and not later:
        try:
            found = get_type_hints(found).get("return")
        except (TypeError, NameError):  # what has no annotations, or some that name nothing
            return False
    return isinstance(found, type) and issubclass(found, base)
