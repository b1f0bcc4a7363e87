"""Reads text, YAML and JSON that users give: within limits, and with a one-line error."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from hwaware.errors import UserError

#: Largest file of settings. One with hundreds of layers, each with its own cells, is a hundredth of that.
MAX_BYTES = 16 << 20
#: Most values in it; those of a YAML alias count each time.
MAX_VALUES = 1_000_000
MAX_DEPTH = 100
_BRACKETS = 10 * MAX_DEPTH  # open at once; some may be in texts
#: Units of time in seconds. A month has 30 days, as in labels of ages.
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "mo": 2_592_000, "y": 31_536_000}
_NAMES = {
    **{"sec": "s", "second": "s", "minute": "min", "hour": "h", "day": "d", "week": "w", "month": "mo"},
    **{"yr": "y", "year": "y"},
}
#: A number and a unit.
AGE = re.compile(r"\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([a-z]+)\s*", flags=re.IGNORECASE)


#: Texts of the files that were read, by path: a run keeps the files that it was built from.
_LAST_READ: dict[str, str] = {}


class NotYamlError(UserError):
    """The text is not YAML."""


class SettingsLoader(yaml.SafeLoader):
    """Plain tables, lists and values. Refuses duplicate keys, and numbers with colons."""


def _mapping(loader: SettingsLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    names = [key.value for key, _ in node.value]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise yaml.MarkedYAMLError(problem=f"'{twice}' appears twice", problem_mark=node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _number(construct: Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]) -> Callable[..., Any]:
    def checked(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        if ":" in node.value:
            line = node.start_mark.line + 1
            raise UserError(f"line {line}: '{node.value}' is not a number; put quotes around a text like that.")
        return construct(loader, node)

    return checked


SettingsLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
SettingsLoader.add_constructor("tag:yaml.org,2002:int", _number(yaml.SafeLoader.construct_yaml_int))
SettingsLoader.add_constructor("tag:yaml.org,2002:float", _number(yaml.SafeLoader.construct_yaml_float))


def refuse_special(path: str | Path, what: str) -> None:
    """Raises UserError for a folder, pipe or device, which may take forever to read, and OSError for a missing file.

    Args:
        path: path of the file.
        what: kind of file, for messages.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UserError(f"{what} '{path}' is {'a folder' if Path(path).is_dir() else 'not a regular file'}.")


def read_text(path: str | Path, what: str, max_bytes: int = MAX_BYTES) -> str:
    """A file's text, which must be UTF-8, without a byte-order mark.

    Args:
        path: path of the file.
        what: kind of file, for messages, such as ``device file``.
        max_bytes: largest size.

    Raises:
        UserError: the file is missing, not a regular file (a folder, a pipe), too large, or not UTF-8.
    """
    path = Path(path)
    try:
        refuse_special(path, what)
        if (size := path.stat().st_size) > max_bytes:
            raise UserError(f"{what} '{path}' has {size:,} bytes; at most {max_bytes:,} are read.")
        text = path.read_text(encoding="utf-8-sig")
        _LAST_READ[str(path.absolute())] = text
        return text
    except UnicodeDecodeError as error:
        raise UserError(f"{what} '{path}' is not UTF-8 text: {error.reason} at byte {error.start}.") from None
    except (OSError, ValueError) as error:  # the latter: a zero byte in the name
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what} '{path}' can't be read: {getattr(error, 'strerror', None) or error}.") from None


def as_read(path: str | Path) -> str:
    """A file's text as :func:`read_text` last read it in this process, even if the file has changed since."""
    return _LAST_READ[str(Path(path).absolute())]


def read_yaml(path: str | Path, what: str) -> Any:
    """Content of a YAML file; see :func:`read_text` and :func:`parse_yaml`."""
    return parse_yaml(read_text(path, what), f"{what} '{path}'")


def read_json(path: str | Path, what: str, max_bytes: int = MAX_BYTES) -> Any:
    """Content of a JSON file; see :func:`read_text` and :func:`parse_json`."""
    return parse_json(read_text(path, what, max_bytes), f"{what} '{path}'")


def read_json_or_lines(path: str | Path, what: str, max_bytes: int = MAX_BYTES) -> Any:
    """Content of a JSON file, or a list of the objects in its lines (JSON Lines)."""
    text, what = read_text(path, what, max_bytes), f"{what} '{path}'"
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) < 2 or not _is_object(lines[0][1]):
        return parse_json(text, what)
    return [parse_json(line, what, number) for number, line in lines]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def parse_yaml(text: str, what: str) -> Any:
    """A YAML document.

    Args:
        text: text to parse.
        what: kind of text, for messages.

    Raises:
        NotYamlError: it is not YAML, or a table has a key twice.
        UserError: it has too many values with its aliases expanded, is nested too deeply, or has a number that is too
            long or has colons, which YAML 1.1 takes for hours and minutes.
    """
    _refuse_brackets(text, what)
    try:
        content = yaml.load(text, SettingsLoader)
    except yaml.YAMLError as error:
        raise NotYamlError(f"{what} is not YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise _why(error, what) from None
    except RecursionError:
        raise UserError(f"{what} is nested deeper than {MAX_DEPTH} levels.") from None
    return _within_limits(content, what)


def parse_json(text: str, what: str, first_line: int = 1) -> Any:
    """A JSON document.

    Args:
        text: text to parse.
        what: kind of text, for messages.
        first_line: number of its first line in the file.

    Raises:
        UserError: it is not JSON, has NaN or Infinity, which JSON lacks, is nested too deeply, or has a number that is
            too long or half of a character.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():  # perhaps half of a character, which can't be written, printed or tokenised
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except json.JSONDecodeError as error:
        where = f"line {first_line + error.lineno - 1}, column {error.colno}"
        raise UserError(f"{what}, {where}: not JSON ({error.msg}).") from None
    except RecursionError:
        raise UserError(f"{what} is nested too deeply.") from None
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise UserError(f"{what} has a text with {half}, which is half of a character.") from None
    except ValueError as error:
        raise _why(error, what) from None


def _why(error: ValueError, what: str) -> UserError:
    """The error in this package's words."""
    if isinstance(error, UserError):
        return UserError(f"{what}, {error}")
    digits = sys.get_int_max_str_digits()
    if "integer string conversion" in str(error):
        return UserError(f"{what} has a number of more than {digits:,} digits.")
    return UserError(f"{what}: {error}")


def _refuse_brackets(text: str, what: str) -> None:
    """Refuses thousands of nested brackets, which take the parser seconds to reject."""
    if text.count("[") + text.count("{") < _BRACKETS:
        return
    depths = accumulate((character in "[{") - (character in "]}") for character in text if character in "[]{}")
    if max(depths) > _BRACKETS:
        raise UserError(f"{what} is nested deeper than {MAX_DEPTH} levels.")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number.")


def _within_limits(content: Any, what: str) -> Any:
    """The content, if it is within the limits. Aliases can make a small file endless when expanded."""
    left = MAX_VALUES
    level: Iterable[Any] = [content]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list | tuple | set):
                inner.extend(value)
            if len(inner) > left:
                raise UserError(f"{what} has more than {MAX_VALUES:,} values, counting what its aliases stand for.")
        if not inner:
            return content
        left, level = left - len(inner), inner
    raise UserError(f"{what} is nested deeper than {MAX_DEPTH} levels.")


def seconds(text: str) -> float:
    """Seconds of an age such as ``3600``, ``1h``, ``1 day`` or ``10y``.

    Raises:
        UserError: the text is not an age.
    """
    try:
        return float(text)
    except ValueError:
        pass
    found = AGE.fullmatch(text)
    unit = found[2].lower() if found else ""
    unit = unit if unit in _SECONDS else _NAMES.get(unit, _NAMES.get(unit.removesuffix("s"), unit))
    if found is None or unit not in _SECONDS:
        raise UserError(f"'{text}' is not an age: give seconds, or a number with one of {', '.join(_SECONDS)} (10y).")
    return float(found[1]) * _SECONDS[unit]
