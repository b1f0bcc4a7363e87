"""The commands: one module each, and the one list of them. Listing them imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command as the list has it; its arguments, checks and run are in ``hwaware/commands/NAME.py``.

    Attributes:
        help: one line.
        on_recipe: whether the command line reads a recipe for it: of its ``run``, the parameters named in
            :data:`hwaware.cli.parser.BUILT` are then built from the recipe, and the others are its own options.
            Otherwise ``run`` takes the words after the command's name.
        keeps_run: whether it makes a run folder where the recipe names no logger.
        at_once: whether it needs nothing whose import takes seconds.
    """

    help: str
    on_recipe: bool = True
    keeps_run: bool = True
    at_once: bool = False


COMMANDS = {
    "quickstart": Command(
        "a first run, in minutes: scikit-learn's digits, from a digital network to ten years on ten chips",
        on_recipe=False,
        at_once=True,
    ),
    "recipes": Command(
        "list the recipes; recipes copy NAME [--out FILE] writes one to start from",
        on_recipe=False,
        at_once=True,
    ),
    "fit": Command("pretrain a network, or finetune it for a memory technology, then age it on chips"),
    "validate": Command("metrics on the validation samples, exact weights", keeps_run=False),
    "test": Command("metrics on the test samples, exact weights", keeps_run=False),
    "drift": Command("accuracy on simulated chips, from one second to ten years; only evaluates"),
    "compare": Command("the same with each repair of the chips, and its cost"),
    "sensitivity": Command("rank layers by the damage that they do in aged cells"),
    "plan": Command("choose the cells of each layer, for a budget of cells or an accuracy: placement.yaml"),
    "arrays": Command("count the arrays and conversions of each layer; estimate energy and latency"),
    "device": Command(
        "memory technologies: device list, show NAME, plot NAME; own ones: fit CSV --out YAML, simulate NAME",
        on_recipe=False,
    ),
    "export": Command("conductance targets, scales and planned repairs, for whoever writes the chips", keeps_run=False),
    "push": Command("a finetuned network as a repository of the Hugging Face hub, or as such a folder"),
    "onnx": Command("a network as an ONNX file, effective weights"),
    "sweep": Command(
        "a grid of settings, one run each, as one table: sweep FILE [--jobs N] [-- --KEY VALUE ...]", on_recipe=False
    ),
    "study": Command(
        "run the missing jobs of an experiment (results/*/study.yaml): study FOLDER [--inputs.NAME PATH] [--dry]",
        on_recipe=False,
    ),
}


def load(name: str) -> Callable[..., Any]:
    """The ``run`` of a command, whose module is imported now."""
    return import_module(f"hwaware.commands.{name}").run


def listing() -> str:
    """A line per command, as ``hwaware --help`` has them."""
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
