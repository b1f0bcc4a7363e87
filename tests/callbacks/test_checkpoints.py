"""Checkpoints: whole or not there, between optimiser steps, and enough to go on bit for bit, however often killed."""

from __future__ import annotations

import errno
import resource
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hwaware.callbacks import WholeCheckpoints
from hwaware.cli.main import main
from tests.command_line import FINETUNE, pretrained_weights, run

#: 20 batches in 2 epochs; or 40, three a step and the last of each epoch two.
WHOLE = ()
SUMMED = ("--data.batch_size", 16, "--trainer.accumulate_grad_batches", 3)
AVERAGED = ("--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay", 0.8)
EACH_EPOCH = ("--checkpoint.every_n_train_steps", "null", "--checkpoint.every_n_epochs", 1)


@pytest.fixture
def no_limit():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fit(folder: Path, *options: object) -> list[str]:
    """A command that trains in a folder."""
    common = ("fit", "--config", FINETUNE, "--evaluation.networks", "[]", "--model.weights", pretrained_weights())
    return [str(word) for word in (*common, "--trainer.default_root_dir", folder, *options)]


def callback(name: str, **arguments: object) -> list[str]:
    given = [word for key, value in arguments.items() for word in (f"--trainer.callbacks.{key}", str(value))]
    return [f"--trainer.callbacks+=tests.tiny.{name}", *given]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.rglob("model.safetensors")
    return load_file(file)


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not one[key].equal(other[key])] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Weights after a training that nothing interrupts, by its options."""

    @cache
    def trained(*options: object) -> dict[str, torch.Tensor]:
        folder = tmp_path_factory.mktemp("whole")
        run(*fit(folder, *options))
        return weights(folder)

    return trained


def test_what_was_there_stays_where_the_new_one_does_not_fit(tmp_path, no_limit):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="too large") as caught:
        WholeCheckpoints().save_checkpoint({"step": 2, "weights": torch.zeros(10_000)}, path)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert torch.load(path) == {"step": 1} and list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_outside_the_checkpoints_folder(tmp_path, monkeypatch):
    """The folder of temporary files may lie on another file system, from which a move is a copy."""
    moved = []
    monkeypatch.setattr("os.replace", lambda source, target: moved.append((Path(source), Path(target))))
    WholeCheckpoints().save_checkpoint({"step": 1}, tmp_path / "checkpoints" / "last.ckpt")
    ((source, target),) = moved
    assert target == tmp_path / "checkpoints" / "last.ckpt" and source.parent == target.parent


@pytest.mark.slow
def test_a_disk_that_fills_up_leaves_a_checkpoint_to_go_on_from(tmp_path, capsys, no_limit, whole):
    folder = tmp_path / "full"
    assert main(fit(folder, *callback("FillDisk", step=8))) == 1
    last = folder / "finetune" / "version_0" / "checkpoints" / "last.ckpt"
    error = capsys.readouterr().err
    assert f"hwaware: File too large: '{last}'." in error
    assert error.endswith(f"The same command goes on with --ckpt_path {last}\n")
    assert torch.load(last, weights_only=True)["global_step"] == 6 and list(last.parent.iterdir()) == [last]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    run(*fit(folder, "--ckpt_path", last))
    assert_same(weights(folder), whole())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "checkpoints", "kills"),
    [
        pytest.param(WHOLE, ("--checkpoint.every_n_train_steps", 5), (10, 13), id="at an epoch's end"),
        pytest.param(WHOLE, ("--checkpoint.every_n_train_steps", 4), (7, 11, 15), id="several steps between them"),
        pytest.param(WHOLE, EACH_EPOCH, (11, 12), id="each epoch"),
        pytest.param(SUMMED, ("--checkpoint.every_n_train_steps", 2), (7, 8), id="within a step"),
        pytest.param(SUMMED, ("--checkpoint.every_n_train_steps", 2), (8, 10, 22, 29), id="within steps"),
        pytest.param(SUMMED, (*EACH_EPOCH, "--trainer.val_check_interval", 4), (24, 26), id="after validation"),
        pytest.param(AVERAGED, ("--checkpoint.every_n_train_steps", 5), (7, 12), id="averaged"),
        pytest.param(
            (*AVERAGED, *SUMMED), ("--checkpoint.every_n_train_steps", 2), (7, 8), id="averaged within a step"
        ),
        pytest.param(
            AVERAGED, ("--checkpoint.every_n_train_steps", 5, "--trainer.max_steps", 20), (20,), id="averaged, ended"
        ),
        pytest.param(AVERAGED, EACH_EPOCH, (20,), id="averaged, ended, each epoch"),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_weights(tmp_path, capsys, whole, training, checkpoints, kills):
    """As one that was not killed, whenever that wrote checkpoints and validated."""
    folder, options = tmp_path / "killed", (*training, *checkpoints)
    for number, batches in enumerate(kills):
        resume = ("--ckpt_path", "last") if number else ()
        assert main(fit(folder, *options, *resume, *callback("DieAt", batches=batches))) == 1
        assert "(Killed; --debug" in capsys.readouterr().err
    run(*fit(folder, *options, "--ckpt_path", "last"))
    assert_same(weights(folder), whole(*training))


@pytest.mark.slow
def test_one_that_was_written_within_a_step_is_refused(tmp_path, capsys):
    """Lightning's own writes one there after it has gone on."""
    theirs = ("--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint", "--trainer.callbacks.save_top_k", -1)
    options = (*SUMMED, *theirs, "--trainer.callbacks.every_n_train_steps", 1, "--trainer.callbacks.filename", "{step}")
    first, within = (tmp_path / "finetune" / f"version_{i}" / "checkpoints" / "step=1.ckpt" for i in (0, 1))
    run(*fit(tmp_path, *options, "--trainer.max_steps", 2))
    run(*fit(tmp_path, *options, "--trainer.max_steps", 2, "--ckpt_path", first))
    assert main(fit(tmp_path, *SUMMED, "--ckpt_path", str(within))) == 2
    assert "was written within an optimiser step" in capsys.readouterr().err


@pytest.mark.slow
def test_the_best_can_only_be_kept_between_steps(tmp_path, capsys):
    best = (
        "--checkpoint.monitor",
        "val/top1",
        "--checkpoint.every_n_train_steps",
        "null",
        "--checkpoint.save_top_k",
        1,
    )
    assert main(fit(tmp_path, *SUMMED, *best, "--trainer.val_check_interval", 4)) == 2
    error = capsys.readouterr().err
    assert "checkpoint.monitor 'val/top1': validation every 4 batches is not between optimiser steps" in error
