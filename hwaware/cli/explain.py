"""Turns the argument parser's error messages into one line: the reason first."""

from __future__ import annotations

import re
from ast import literal_eval
from dataclasses import fields, is_dataclass

from jsonargparse import ArgumentParser
from jsonargparse.typing import import_object

from hwaware.errors import nearest

#: Beginnings of lines in jsonargparse's messages that name types it tried, not what is wrong.
_NOISE = (
    "Does not validate against",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Given value",
    "Parser key",
    "Problem with given class_path",
    "Subtypes:",
)
_UNKNOWN = re.compile(
    r"Option '(?P<option>[^']+)' is not accepted|[Uu]nrecognized arguments?: (?:--)?(?P<argument>[^\s=]+)"
    r"|does not accept option '(?P<key>[^']+)'"
)
_LITERAL = re.compile(r"typing\.Literal(\[[^\]]*\])")
_CLASS = re.compile(r"Expected a path but ([^\[{]\S*) either|Expected a dot import path string: (\S+)")
_LIST = re.compile(r"Expected a <class 'collections\.abc\.(?:Sequence|Iterable)'>\. Got value: (.*)")
_GIVEN = re.compile(r"(?:Given value|Got value): (?:NestedArg\(key='[^']*', val=)?'?(.*?)'?\)?$", re.MULTILINE)


def explain(message: str, parser: ArgumentParser | None, classes: list[str]) -> str:
    """One line for a message of jsonargparse.

    Args:
        message: the message, often a tree of all types that a value was tried as.
        parser: the subcommand's parser, for the names of its keys; None before a subcommand is known.
        classes: names that a recipe may give as ``class_path``.
    """
    path, reason, owner = [], "", None
    for line in (line.strip().removeprefix("- ") for line in message.splitlines()):
        if match := re.match(r'(?:Type typing\.Callable.*: )?Parser key "([^"]+)":?\s*', line):
            path.append(match[1])
            line = line[match.end() :]
        if match := re.match(r"Problem with given class_path '([^']+)'", line):
            owner = match[1]
        if line and not line.startswith(_NOISE) and not re.match(r"Expected a path but [\[{]", line):
            reason = line
            break
    key = ".".join(path)
    if match := re.match(r"the following arguments are required: (.*)", reason):
        if key:  # of a class that the recipe names
            missing = [f"{key}.{name}" for name in match[1].split(", ")]
            return f"{', '.join(missing)}: missing; set it in the recipe, or give --{missing[0]}."
        if "out" in match[1]:
            return "give --out: where to write."
        return "there is no recipe: give --config RECIPE (recipes/*.yaml)."
    if match := re.search(r"Got value: Namespace\(class_path='([^']+)'", reason):
        owner = match[1]
    if match := _UNKNOWN.search(reason):
        return _unknown_key(key, match[match.lastgroup], owner, parser)
    given = _GIVEN.search(message)
    if match := _LIST.search(reason):
        return f"{key}: '{match[1]}' is no list; write [{match[1]}]."
    if given and (found := _LITERAL.findall(message)):
        options = {str(option) for text in found for option in literal_eval(text)}
        return f"{key}: '{given[1]}' is unknown. {nearest(given[1], options)}"
    if match := _CLASS.search(reason):
        return _unknown_class(key, match[1] or match[2], _subtypes(message, match[0]), classes)
    if match := re.match(r"invalid literal for int\(\) with base 10: (.*)", reason):
        return f"{key}: {match[1]} is no whole number."
    if given and (match := re.match(r"Expected a <class '([^']+)'>", reason)):
        return f"{key}: '{given[1]}' is no {match[1].rpartition('.')[2]}."
    return f"{key}: {reason}" if key else reason or " ".join(message.split())


def _unknown_key(key: str, unknown: str, owner: str | None, parser: ArgumentParser | None) -> str:
    unknown = unknown.removeprefix("init_args.")
    if owner is not None:
        level = unknown.rpartition(".")[0]
        siblings = [name.rpartition(".")[2] for name in _keys(owner) if name.rpartition(".")[0] == level]
        hint = nearest(unknown.rpartition(".")[2], siblings)
        return f"{key}.{unknown} is no key of {owner.rpartition('.')[2]}. {hint}"
    options = [action.dest for action in parser._actions] if parser else []
    siblings = [option for option in options if option.rpartition(".")[0] == unknown.rpartition(".")[0]]
    return f"{unknown} is no key. {nearest(unknown, siblings or {option.split('.')[0] for option in options})}"


def _keys(owner: str) -> list[str]:
    """What a class takes, those that it only passes on to its base class included."""
    parser = ArgumentParser()
    parser.add_class_arguments(import_object(owner), fail_untyped=False)
    return [action.dest for action in parser._actions if action.dest != "help"]


def _subtypes(message: str, line: str) -> str:
    """What the message says was tried at a line: as paths that comes after it, as classes before it."""
    before, _, after = message.partition(line)
    at = before.rfind("Subtypes")
    return before[at:] if line.startswith("Expected a dot import path") and at >= 0 else after


def _unknown_class(key: str, name: str, tried: str, classes: list[str]) -> str:
    """A word stands where a class, or a table of keys, belongs."""
    wanted = re.search(r"Subtypes: \[(?:<class '|list\[)([^'\]]+)", tried)
    cls = import_object(wanted[1]) if wanted and "." in wanted[1] else None
    if wanted and cls is None:
        return f"{key}: '{name}' is no {wanted[1]}."
    if is_dataclass(cls) and "name" in {field.name for field in fields(cls)}:
        return f"{key}: '{name}' is no table of keys; give it as {key}.name {name}."
    if is_dataclass(cls):
        return f"{key}: '{name}' is no table of keys; give {' and '.join(f'{key}.{one.name}' for one in fields(cls))}."
    known = {one.__name__: one for one in (subclasses(cls) if cls else ())}
    short = (one for one, found in known.items() if getattr(found, "name", None) == name.lower())
    meant = next(short, name.rpartition(".")[2])
    return f"{key}: there is no class '{name}'. {nearest(meant, known or classes)}"


def subclasses(cls: type) -> list[type]:
    """All classes derived from one, whose modules were imported."""
    return [one for sub in cls.__subclasses__() for one in (sub, *subclasses(sub))]
