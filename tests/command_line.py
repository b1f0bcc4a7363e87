"""Running commands in tests, in this process; :mod:`tests.processes` runs them as others."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.cli.main import main
from hwaware.commands import COMMANDS
from hwaware.commands.grid import read_grid
from hwaware.commands.jobs import read_study
from hwaware.results.csv import read_rows
from hwaware.results.row import Row

#: Options that leave a recipe's task without a device, and without what only a device has.
NO_DEVICE = [
    *("--model.hardware", "null", "--model.noise", "null"),
    *("--model.retention", "null", "--model.clip_alpha", "null"),
]

ROOT = Path(__file__).parent.parent
CONF = ROOT / "tests" / "conf"
PRETRAIN = str(CONF / "pretrain.yaml")
FINETUNE = str(CONF / "finetune.yaml")
_FOLDER = tempfile.TemporaryDirectory(prefix="hwaware-tests-")


def run(*arguments: object) -> None:
    """A command in this process; must succeed."""
    assert main([str(argument) for argument in arguments]) == 0


def parses(command: str) -> None:
    """A command of a document says nothing wrong, and prints something; of what may take long, nothing is run."""
    arguments = shlex.split(command)[1:]
    if arguments[0] == "sweep":
        print(read_grid(arguments[1]))
        return
    if arguments[0] == "study":
        given = [word.removeprefix("--inputs.") for word in arguments if word.startswith("--inputs.")]
        print(inputs := list(read_study(arguments[1]).inputs))
        assert inputs == given
        return
    if arguments[0] == "quickstart":  # runs
        arguments.append("--help")
    elif arguments[0] in COMMANDS and COMMANDS[arguments[0]].on_recipe and "--print_config" not in arguments:
        arguments.append("--print_config")
    if "--ckpt_path" in arguments:  # `last` asks for a run that is there
        at = arguments.index("--ckpt_path")
        del arguments[at : at + 2]
    run(*arguments)


def measured(file: Path) -> list[Row]:
    """Rows without the commit, which may change while tests run."""
    return [replace(row, commit="") for row in read_rows(file)]


@cache
def pretrained_weights() -> Path:
    """Weights of the tiny network after an epoch of digital training, as ``hwaware fit`` writes them."""
    folder = Path(_FOLDER.name)
    run("fit", "--config", PRETRAIN, "--trainer.default_root_dir", folder)
    return folder / "pretrain" / "version_0" / "model.safetensors"
