"""A run that is killed at any moment and resumed ends with the very weights of one that was not."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hwaware.cli.main import main
from tests.command_line import FINETUNE, pretrained_weights, run
from tests.processes import run_process

pytestmark = pytest.mark.slow

COMMON = ("fit", "--config", FINETUNE, "--evaluation.networks", "[]", "--trainer.val_check_interval", "0.5")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """Final weights after 2 epochs of 10 steps."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(*COMMON, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder)
    return folder / "finetune" / "version_0" / "model.safetensors"


def assert_same_weights(one: Path, other: Path) -> None:
    one, other = load_file(one), load_file(other)
    assert one.keys() == other.keys()
    assert [key for key in one if not one[key].equal(other[key])] == []


def test_killed_at_several_points(tmp_path, uninterrupted):
    # One run, killed over and over: mid-epoch between two checkpoints, at the end of an epoch, while a checkpoint is
    # being written, and after the last step. Each time the command is the one a user would type again.
    points = [(5, "batch_start"), (10, "batch_end"), (14, "saving"), (20, "end")]
    command = [*COMMON, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", "."]
    for attempt, (step, point) in enumerate(points):
        killer = ["--trainer.callbacks", "tests.tiny.KillAt"]
        killer += ["--trainer.callbacks.step", step, "--trainer.callbacks.point", point]
        resume = ["--ckpt_path", "last"] if attempt else []
        done = run_process(*command, *killer, *resume, cwd=tmp_path)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not list(tmp_path.rglob("model.safetensors"))
    run(*COMMON, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path, "--ckpt_path", "last")
    (weights,) = tmp_path.rglob("model.safetensors")
    assert_same_weights(weights, uninterrupted)


def test_resume_by_path(tmp_path, uninterrupted):
    checkpoint = uninterrupted.parent / "checkpoints" / "last.ckpt"
    common = [*COMMON, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path]
    run(*common, "--ckpt_path", checkpoint)
    (weights,) = tmp_path.rglob("model.safetensors")
    assert_same_weights(weights, uninterrupted)


def test_with_mixed_and_augmented_images(tmp_path):
    """timm's Mixup and policies draw from numpy's generator, which no checkpoint holds."""
    options = ("--model.mixing.mixup_alpha", 0.8, "--data.auto_augment", "rand-m9-mstd0.5-inc1")
    common = [*COMMON, *options, "--data.random_erasing", 0.5, "--model.weights", pretrained_weights()]
    run(*common, "--trainer.default_root_dir", tmp_path)
    folder = tmp_path / "finetune"
    np.random.seed(1)  # whatever ran before
    run(
        *common,
        "--trainer.default_root_dir",
        tmp_path,
        "--ckpt_path",
        folder / "version_0" / "checkpoints" / "last.ckpt",
    )
    assert_same_weights(*(folder / f"version_{number}" / "model.safetensors" for number in (0, 1)))


def test_with_weights_of_compiled_functions(tmp_path):
    common = [*COMMON, "--model.weights_way", "compiled", "--model.weights", pretrained_weights()]
    common += ["--trainer.default_root_dir", tmp_path]
    folder = tmp_path / "finetune"
    run(*common)
    run(*common, "--ckpt_path", folder / "version_0" / "checkpoints" / "last.ckpt")
    assert_same_weights(*(folder / f"version_{number}" / "model.safetensors" for number in (0, 1)))


def test_another_seed_ends_elsewhere(tmp_path, uninterrupted):
    # Else equal weights would prove nothing about the noise.
    run(
        *COMMON, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path, "--seed_everything", 1
    )
    (weights,) = tmp_path.rglob("model.safetensors")
    one, other = load_file(weights), load_file(uninterrupted)
    assert not one["conv1.weight"].equal(other["conv1.weight"])


@pytest.mark.slow
def test_a_device_file_that_changes_counts_as_it_was_when_the_run_began(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("law: relative\ng_min_us: 2\ng_max_us: 50\nrelative_drift: 0.2\n")
    folder = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_steps"]
    arguments = [*COMMON, "--model.weights", str(pretrained_weights()), *folder]
    run(*arguments, "8", "--model.hardware.device.name", str(file))
    file.write_text(file.read_text().replace("50", "40"))
    started = tmp_path / "finetune" / "version_0"
    checkpoint = ["--ckpt_path", str(started / "checkpoints" / "last.ckpt")]
    assert main([*arguments, "16", "--model.hardware.device.name", str(file), *checkpoint]) == 2
    error = capsys.readouterr().err
    assert "g_max_us: checkpoint 50.0, recipe 40.0" in error and "config.yaml of the run" in error
    run("fit", "--config", str(started / "config.yaml"), *folder, "16", *checkpoint)
    assert load_file(started.parent / "version_1" / "model.safetensors")


def test_checkpoint_of_other_hardware_is_refused(tmp_path, uninterrupted, capsys):
    checkpoint = uninterrupted.parent / "checkpoints" / "last.ckpt"
    arguments = [*COMMON, "--model.weights", str(pretrained_weights()), "--trainer.default_root_dir", str(tmp_path)]
    assert main([*arguments, "--model.hardware.encoding.kappa", "1", "--ckpt_path", str(checkpoint)]) == 2
    assert "another hardware" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ours", [True, False])
def test_a_checkpoint_without_its_schedule_is_refused(ours, tmp_path, uninterrupted, capsys):
    checkpoint = torch.load(uninterrupted.parent / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**checkpoint, "lr_schedulers": []} if ours else checkpoint, tmp_path / "other.ckpt")
    arguments = [*COMMON, "--model.weights", str(pretrained_weights()), "--trainer.default_root_dir", str(tmp_path)]
    more = [] if ours else ["--model.scheduler", "null"]
    assert main([*arguments, *more, "--ckpt_path", str(tmp_path / "other.ckpt")]) == 2
    has, lacks = ("none", "one") if ours else ("one", "none")
    assert f"has {has} of 'lr_schedulers', and the recipe has {lacks}" in capsys.readouterr().err
