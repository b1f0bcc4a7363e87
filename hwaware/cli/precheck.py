"""Detects typing errors in a command line before torch and Lightning are imported.

Keys are looked up in the source of the classes that take them, and names among files. Everything else is left to the
parser, as are errors that it explains better.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

from hwaware.cli.explain import check_value, unknown_key
from hwaware.cli.renamed import moved
from hwaware.cli.settings import read_settings
from hwaware.cli.source import Found, find_class, parameters_of, strings_given_to
from hwaware.commands import COMMANDS
from hwaware.commands.quickstart import FINETUNE
from hwaware.errors import UserError, nearest
from hwaware.results.repairs import REPAIRS

#: Sections of a recipe, the parameter that a command's ``run`` has for them, and the class that takes their keys.
_SECTIONS = {
    "trainer": ("trainer", "lightning.pytorch", "Trainer"),
    "evaluation": ("trainer", "hwaware.callbacks", "DriftEvaluation"),
    "checkpoint": ("trainer", "hwaware.callbacks", "StepCheckpoint"),
}
#: Sections that name a class, and where it is looked for.
_CLASSES = {"model": ("task", "hwaware.tasks"), "data": ("datamodule", "hwaware.data")}

#: Keys of every command on a recipe.
_COMMON = ("config", "seed_everything", "recipe", "based_on", *_SECTIONS, *_CLASSES)

#: Names that an annotation may have for its values to be checked here.
_PLAIN = {kind.__name__: kind for kind in (int, float, bool, str, list, dict, tuple, Sequence, Mapping)} | {
    "Any": Any,
    "Literal": Literal,
    "Optional": Optional,
    "Union": Union,
}

_HARDWARE = Path(__file__).parents[1] / "hardware"
_PRESETS = _HARDWARE / "devices" / "presets"
_CONSTANTS = _HARDWARE / "crossbar" / "presets"


def precheck(name: str, arguments: Sequence[str]) -> None:
    """Raises UserError for a typing error in a command line.

    Args:
        name: name of the command.
        arguments: its arguments.
    """
    if any(one in ("-h", "--help") or one.endswith(".help") for one in arguments):
        return
    if name == "quickstart":
        _check_recipe("fit", ["--config", FINETUNE, *arguments])
    elif name == "device":
        _check_device(arguments)
    elif COMMANDS[name].on_recipe:
        _check_recipe(name, arguments)


def _check_recipe(name: str, arguments: Sequence[str]) -> None:
    settings, _ = read_settings(arguments)
    own = parameters_of(f"hwaware.commands.{name}", "run")
    options = [one for one in own if one not in ("trainer", "task", "datamodule", "evaluation")]
    _check_top(settings, (*_COMMON, *options))
    for section, (parameter, module, cls) in _SECTIONS.items():
        found = find_class(module, cls)
        if parameter in own and found is not None and isinstance(settings.get(section), dict):
            _check_section(section, settings[section], found)
    for section, (parameter, module) in _CLASSES.items():
        if parameter in own:
            _check_class(section, settings.get(section), module)
    _check_names(settings)
    if "constants" in options and isinstance(settings.get("constants"), str):
        _check_constants(settings["constants"])


def _check_device(arguments: Sequence[str]) -> None:
    """Checks the device of ``device show``, ``plot`` and ``simulate``."""
    words = [one for one in arguments if not one.startswith("-")]
    if len(words) > 1 and words[0] in ("show", "plot", "simulate"):
        _check_preset(words[1])


def _check_top(settings: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in settings:
        if key not in known:
            raise UserError(moved(key, settings[key]) or unknown_key("", key, known))


def _check_section(section: str, settings: Mapping[str, Any], found: Found) -> None:
    """Checks a section of one class, whose keys are the parser's own."""
    known = [f"{section}.{key}" for key in found.takes if (section, key) not in _LINKED]
    for key, value in settings.items():
        if key not in found.takes:
            if not found.more:
                raise UserError(moved(f"{section}.{key}", value) or unknown_key("", f"{section}.{key}", known))
            continue
        _check(f"{section}.{key}", *found.takes[key], value)


#: Keys that others set.
_LINKED = (("evaluation", "recipe"), ("evaluation", "seed"))


def _check_class(key: str, given: Any, module: str) -> None:
    """Checks a class name, or a table that has one; a name without a module is looked up in a package."""
    settings = {"class_path": given} if isinstance(given, str) else given
    path = settings.get("class_path") if isinstance(settings, dict) else None
    if not isinstance(path, str) or not path:
        return
    place, _, name = path.rpartition(".")
    found = find_class(place or module, name)
    if found is None and not place:
        raise UserError(f"{key}: there is no class '{name}'. {nearest(name, _listed(module))}")
    if found is not None:
        _check_keys(f"{key}.", settings, found)


def _check_keys(prefix: str, settings: Mapping[str, Any], found: Found) -> None:
    for key, value in settings.items():
        if key in ("class_path", "dict_kwargs"):
            continue
        if key not in found.takes:
            if found.more:
                continue
            raise UserError(moved(prefix + key, value) or unknown_key(prefix, key, found.takes, found.name))
        _check(prefix + key, *found.takes[key], value)


def _check(key: str, hint: ast.expr | None, module: str, value: Any) -> None:
    """Checks a value by the annotation of its argument, and the module that has the annotation."""
    if hint is None or value is None:
        return
    if (kind := _plain(hint)) is not None:
        check_value(key, kind, value)
        return
    for one in value if isinstance(value, list) else [value]:
        if key == "evaluation.methods":
            if not isinstance(value, str):  # otherwise the parser says that a list is required
                _check_class(key, one, "hwaware.compensation")
        elif isinstance(one, dict) and "class_path" not in one:
            classes = [cls for name in _names(hint) if (cls := find_class(module, name)) is not None]
            if len(classes) == 1:
                _check_keys(f"{key}.", one, classes[0])


def _plain(hint: ast.expr) -> Any:
    """The type that an annotation names; None if it is not a plain type."""
    if any(name not in _PLAIN for name in _names(hint)):
        return None
    try:
        return eval(compile(ast.Expression(hint), "<annotation>", "eval"), {"__builtins__": {}}, _PLAIN)
    except (TypeError, NameError, AttributeError):
        return None


def _names(hint: ast.expr) -> list[str]:
    return [one.id for one in ast.walk(hint) if isinstance(one, ast.Name)]


def _listed(module: str) -> list[str]:
    if module == "hwaware.compensation":
        return [*REPAIRS, *REPAIRS.values()]
    return {"hwaware.tasks": ["ImageClassification", "QuestionAnswering"], "hwaware.data": ["ImageData", "SquadData"]}[
        module
    ]


# Names.


def _check_names(settings: Any) -> None:
    """Checks devices and mappings, wherever they are named."""
    for key, value in _tables(settings):
        if key == "device" and isinstance(value.get("name"), str):
            _check_preset(value["name"])
        mapping = value.get("mapping")
        if key == "encoding" and isinstance(mapping, str) and "." not in mapping:
            known = strings_given_to("hwaware.hardware.encoding.mapping", "Mapping")
            if known and mapping not in (*known, "bit_sliced"):
                raise UserError(f"mapping '{mapping}' is unknown. {nearest(mapping, [*known, 'bit_sliced'])}")


def _tables(settings: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(settings, list):
        for one in settings:
            yield from _tables(one, key)
    elif isinstance(settings, dict):
        yield key, settings
        for name, one in settings.items():
            yield from _tables(one, name)


def _check_preset(name: str) -> None:
    names = [file.stem for file in _PRESETS.glob("*.yaml")]
    if name not in names and "." not in name:
        raise UserError(f"device '{name}' is unknown. {nearest(name, names)} A path must end in .yaml.")


def _check_constants(name: str) -> None:
    names = [file.stem for file in _CONSTANTS.glob("*.yaml")]
    if name not in names and not name.endswith((".yaml", ".yml")):
        raise UserError(f"constants '{name}' are unknown. {nearest(name, names)} A path must end in .yaml.")
