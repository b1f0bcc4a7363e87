"""Running commands in tests, in this process; :mod:`tests.processes` runs them as others."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.cli.main import main
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


def measured(file: Path) -> list[Row]:
    """Rows without the commit, which may change while tests run."""
    return [replace(row, commit="") for row in read_rows(file)]


@cache
def pretrained_weights() -> Path:
    """Weights of the tiny network after an epoch of digital training, as ``hwaware fit`` writes them."""
    folder = Path(_FOLDER.name)
    run("fit", "--config", PRETRAIN, "--trainer.default_root_dir", folder)
    return folder / "pretrain" / "version_0" / "model.safetensors"
