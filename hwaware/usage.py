"""Turns the argument parser's error messages into one line: the reason first."""

from __future__ import annotations

import re
from ast import literal_eval

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
_LITERAL = re.compile(r"Expected a typing\.Literal(\[.*\])\. Got value: (.*)")
_CLASS = re.compile(r"Expected a path but (\S+) either not accessible or invalid")


def explain(message: str, parser: ArgumentParser | None, classes: list[str]) -> str:
    """One line for a message of jsonargparse.

    Args:
        message: the message, often a tree of all types that a value was tried as.
        parser: the subcommand's parser, for the names of its keys; None before a subcommand is known.
        classes: names that a recipe may give as ``class_path``.
    """
    path, reason, owner = [], "", None
    for line in (line.strip().removeprefix("- ") for line in message.splitlines()):
        if match := re.match(r'Parser key "([^"]+)":?\s*', line):
            path.append(match[1])
            line = line[match.end() :]
        if match := re.match(r"Problem with given class_path '([^']+)'", line):
            owner = match[1]
        if line and not line.startswith(_NOISE):
            reason = line
            break
    key = ".".join(path)
    if reason.startswith("the following arguments are required"):
        return "there is no recipe: give --config RECIPE (recipes/*.yaml)."
    if match := re.search(r"Got value: Namespace\(class_path='([^']+)'", reason):
        owner = match[1]
    if match := _UNKNOWN.search(reason):
        return _unknown_key(key, match[match.lastgroup], owner, parser)
    if match := _LITERAL.search(reason):
        return f"{key}: '{match[2]}' is unknown. {nearest(match[2], literal_eval(match[1]))}"
    if match := _CLASS.search(reason):
        return f"{key}: there is no class '{match[1]}'. {nearest(match[1].rpartition('.')[2], classes)}"
    if match := re.match(r"Expected a <class '([^']+)'>", reason):
        given = re.search(r"Given value: (.*)", message)
        return f"{key}: {given[1]!r} is no {match[1].rpartition('.')[2]}." if given else f"{key}: {reason}"
    return f"{key}: {reason}" if key else reason or " ".join(message.split())


def _unknown_key(key: str, unknown: str, owner: str | None, parser: ArgumentParser | None) -> str:
    unknown = unknown.removeprefix("init_args.")
    if owner is not None:
        unknown = unknown.split(".")[0]
        hint = nearest(unknown, _keys(owner))
        return f"{key}.{unknown} is no key of {owner.rpartition('.')[2]}. {hint}"
    options = [action.dest for action in parser._actions] if parser else []
    siblings = [option for option in options if option.rpartition(".")[0] == unknown.rpartition(".")[0]]
    return f"{unknown} is no key. {nearest(unknown, siblings or {option.split('.')[0] for option in options})}"


def _keys(owner: str) -> list[str]:
    """What a class takes, those that it only passes on to its base class included."""
    parser = ArgumentParser()
    parser.add_class_arguments(import_object(owner), fail_untyped=False)
    return [action.dest for action in parser._actions if "." not in action.dest and action.dest != "help"]
