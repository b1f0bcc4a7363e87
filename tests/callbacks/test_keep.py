"""Training that is kept only where it is better."""

from __future__ import annotations

import csv

import pytest
import torch
from safetensors.torch import load_file

from hwaware.callbacks import KeepBetter
from hwaware.cli.main import main
from hwaware.errors import UserError
from tests.command_line import FINETUNE, pretrained_weights, run


def _fit(folder, *options):
    callback = ("--trainer.callbacks+", "hwaware.callbacks.KeepBetter", "--trainer.callbacks.chips", 2)
    common = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder]
    run("fit", *common, *callback, "--evaluation.networks", "[]", *options)
    folder = folder / "finetune" / "version_0"
    with (folder / "kept.csv").open() as file:
        return folder, list(csv.DictReader(file))


@pytest.mark.slow
def test_a_training_that_harms_is_undone(tmp_path, caplog):
    folder, lines = _fit(tmp_path, "--model.optimizer.init_args.lr", 0.5, "--trainer.gradient_clip_val", 1)
    assert {line["network"] for line in lines if line["kept"] == "True"} == {"untrained"}
    assert "the untrained network is kept" in caplog.text
    before, after = load_file(pretrained_weights()), load_file(folder / "model.safetensors")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_adapters_that_harm_are_undone(tmp_path):
    """They compute nothing then; the cells' weights never moved."""
    harmful = ("--model.adapters", "{rank: 2}", "--model.retention", "null", "--model.clip_alpha", "null")
    folder, lines = _fit(tmp_path, *harmful, "--model.optimizer.init_args.lr", 1.0, "--trainer.max_steps", 3)
    assert {line["network"] for line in lines if line["kept"] == "True"} == {"untrained"}
    before, after = load_file(pretrained_weights()), load_file(folder / "model.safetensors")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=1e-4)
    assert not any(value.any() for key, value in load_file(folder / "adapters.safetensors").items() if "up" in key)


@pytest.mark.slow
def test_a_training_that_helps_is_kept(tmp_path):
    """Of a network whose weights were spoilt: every step helps."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    spoilt = load_file(pretrained_weights())
    spoilt = {
        name: value + 0.3 * torch.randn_like(value) if value.ndim > 1 else value for name, value in spoilt.items()
    }
    save_file(spoilt, tmp_path / "spoilt.safetensors")
    enough = ("--data.batch_size", 128, "--data.train_rows", "[0,1280]", "--data.val_rows", "[1280,1438]")
    _, lines = _fit(tmp_path, "--model.weights", tmp_path / "spoilt.safetensors", *enough)
    means = {
        name: sum(float(line["accuracy"]) for line in lines if line["network"] == name)
        for name in ("trained", "untrained")
    }
    assert means["trained"] > means["untrained"]
    assert {line["network"] for line in lines if line["kept"] == "True"} == {"trained"}


@pytest.mark.slow
def test_norms_and_biases_alone_move(tmp_path):
    options = ("--model.trainable", "norms", "--model.retention", "null", "--model.clip_alpha", "null")
    run("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path,
        "--evaluation.networks", "[]", *options)  # fmt: skip
    before, after = (
        load_file(pretrained_weights()),
        load_file(tmp_path / "finetune" / "version_0" / "model.safetensors"),
    )
    moved = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-6)}
    assert moved and all(before[name].ndim < 2 for name in moved)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model.trainable", "norms"], "retention changes weights, which trainable 'norms' freezes"),
        (["--model.trainable", "normz"], "norm"),
    ],
)
def test_bad_input(tmp_path, capsys, options, reason):
    arguments = ["fit", "--config", FINETUNE, "--model.weights", pretrained_weights()]
    assert main([str(part) for part in [*arguments, "--trainer.default_root_dir", tmp_path, *options]]) == 2
    assert reason in capsys.readouterr().err
    with pytest.raises(UserError, match="chips=0 must be at least 1"):
        KeepBetter(chips=0)
