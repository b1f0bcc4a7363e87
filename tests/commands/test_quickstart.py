"""``hwaware quickstart``: pretrains once, then finetunes and ages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from hwaware.cli.main import main
from hwaware.commands import quickstart
from hwaware.models.build import build_model
from hwaware.results.csv import read_rows
from tests.processes import run_process

DIGITAL = Path("runs", "quickstart_pretrain")


@pytest.fixture
def started(tmp_path, monkeypatch) -> list[list[str]]:
    """The commands that are started; of them, the pretraining leaves weights."""
    monkeypatch.chdir(tmp_path)
    commands: list[list[str]] = []

    def run(command: list[str]) -> int:
        assert command[:4] == [sys.executable, "-m", "hwaware", "fit"]
        commands.append(command[4:])
        if "recipes/quickstart_pretrain.yaml" in command:
            _leave(0)
        return 0

    monkeypatch.setattr(quickstart, "run_here", run)
    return commands


def _leave(version: int) -> str:
    weights = DIGITAL / f"version_{version}" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    os.utime(weights, (version, version))
    return str(weights)


def test_pretrains_then_finetunes_with_what_was_given(started):
    assert main(["quickstart", "--trainer.max_epochs", "1"]) == 0
    finetune = ["--config", "recipes/quickstart.yaml", "--model.weights", str(DIGITAL / "version_0/model.safetensors")]
    assert started == [["--config", "recipes/quickstart_pretrain.yaml"], [*finetune, "--trainer.max_epochs", "1"]]


def test_pretrains_once_and_takes_the_newest(started):
    _leave(9)
    newest = _leave(10)
    assert main(["quickstart"]) == 0
    assert started == [["--config", "recipes/quickstart.yaml", "--model.weights", newest]]


@pytest.mark.parametrize(("status", "said"), [(2, 2), (1, 1), (-9, 137)])
def test_ends_as_what_failed_which_has_said_why(status, said, started, monkeypatch, capsys):
    monkeypatch.setattr(quickstart, "run_here", lambda command: started.append(command) or status)
    assert main(["quickstart"]) == said
    assert len(started) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_leaves_the_run_of_a_finetune(tmp_path, monkeypatch):
    """With a network of random weights in the place of a pretrained one, and less of everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "run_here", lambda command: run_process(*command[3:], cwd=tmp_path).returncode)
    (tmp_path / DIGITAL / "version_0").mkdir(parents=True)
    network = build_model("resnet20_cifar", num_classes=10)
    save_file(network.state_dict(), tmp_path / DIGITAL / "version_0" / "model.safetensors")
    little = ["--trainer.max_steps", "1", "--evaluation.n_chips", "1", "--evaluation.ages_s", "[0]"]
    assert main(["quickstart", *little, "--data.test_subset", "64"]) == 0
    rows = read_rows(tmp_path / "runs" / "quickstart" / "version_0" / "rows.csv")
    assert {(row.recipe, row.network) for row in rows} == {("quickstart", "base"), ("quickstart", "finetuned")}
