"""Runs with biased columns: what is exported, what is kept, and that a killed run loses nothing."""

from __future__ import annotations

import copy
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file

from hwaware.callbacks import BiasColumns
from hwaware.cli.main import main
from hwaware.data import ImageData
from hwaware.errors import UserError
from hwaware.hardware import Codes
from hwaware.tasks import ImageClassification
from hwaware.training import MappingBias
from tests.command_line import FINETUNE, pretrained_weights, run
from tests.placing import options
from tests.processes import run_process

HARDWARE = options("reram_cmo", mapping="bit_sliced", scale="fixed", kappa="linear", format={"fraction_bits": 6})
ENCODING = "--model.hardware.encoding"
SLICED = (
    *(f"{ENCODING}.mapping", "bit_sliced", f"{ENCODING}.scale", "fixed", f"{ENCODING}.kappa", "linear"),
    *(f"{ENCODING}.format.fraction_bits", 6, "--model.noise", "null", "--model.retention", "null"),
    *("--model.clip_alpha", "null", "--evaluation.networks", "[]"),
)
LAYERS = ("conv1.weight", "conv2.weight", "linear.weight")


def command(folder, *more, percent=100):
    weights = ("--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder)
    return ("fit", "--config", FINETUNE, *weights, *SLICED, "--model.bias.percent", percent, *more)


def exported(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.rglob("model.safetensors")
    return load_file(file)


def banned(weight: torch.Tensor) -> torch.Tensor:
    """Which effective weights have the bits 10 in their most significant slice."""
    slices = Codes(8, 2)
    return slices.digits(slices.codes(weight / 2))[0] == 2


@pytest.mark.slow
def test_no_banned_state_is_exported(tmp_path):
    """An epoch is ten steps; a run that ends within one is projected too."""
    for name, length in {"epochs": ("max_epochs", 2), "steps": ("max_steps", 3)}.items():
        run(*command(tmp_path / name, f"--trainer.{length[0]}", length[1]))
        state = exported(tmp_path / name)
        assert not any(banned(state[key]).any() for key in LAYERS)
    assert banned(load_file(pretrained_weights())["conv2.weight"]).any()


def test_a_share_of_the_columns_is_constrained_and_logged(tmp_path):
    run(*command(tmp_path, "--trainer.max_epochs", 1, percent=50))
    state = exported(tmp_path)
    # Of 16 channels of 72 weights a half is free of banned states; chance clears none of the others.
    assert (~banned(state["conv2.weight"]).flatten(1).any(1)).sum() == 8
    (file,) = tmp_path.rglob("metrics.csv")
    header, *lines = (line.split(",") for line in file.read_text().splitlines())
    logged = [dict(zip(header, line, strict=True)) for line in lines]
    columns = [float(line["train/bias_columns"]) for line in logged if line["train/bias_columns"]]
    assert columns == [4 + 8 + 10]  # of 8 channels, of 16, and of 10 with two columns each
    assert all(0 < float(line["train/bias_changed"]) < 0.5 for line in logged if line["train/bias_changed"])


def test_a_plain_trainer_is_told_of_the_missing_callback():
    task = ImageClassification("tiny_test_net", hardware=HARDWARE, bias=MappingBias())
    plain = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    with pytest.raises(UserError, match=r"bias is set, but its callback is missing: Trainer.*BiasColumns"):
        Trainer(max_epochs=1, **plain).fit(task, datamodule=ImageData(source="digits", batch_size=256))
    with pytest.raises(UserError, match=r"needs a task of hwaware\.tasks and a LightningDataModule"):
        Trainer(max_epochs=1, callbacks=[BiasColumns(MappingBias())], **plain).fit(task, [])


def fitted(bias: MappingBias, *callbacks: Callback, epochs: int = 3) -> ImageClassification:
    task = ImageClassification(
        "tiny_test_net",
        weights=str(pretrained_weights()),
        num_classes=10,
        hardware=HARDWARE,
        bias=bias,
    )
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[BiasColumns(bias), *callbacks],
    )  # fmt: skip
    trainer.fit(task, datamodule=ImageData(source="digits", batch_size=256))
    return task


class Epochs(Callback):
    """Each epoch's network and its accuracy, as Lightning validates it, and with what the next one began."""

    def __init__(self) -> None:
        self.networks, self.accuracies, self.begun = [], [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.begun.append(copy.deepcopy(pl_module.network.state_dict()))

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.networks.append(copy.deepcopy(pl_module.network.state_dict()))
            self.accuracies.append(float(trainer.callback_metrics["val/top1"]))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(one[key].equal(other[key]) for key in one | other)


def test_the_best_projected_network_is_kept_and_training_goes_on_from_the_last(monkeypatch):
    scores = iter([50.0, 60.0, 60.0])
    monkeypatch.setattr(BiasColumns, "_score", lambda *_: next(scores))
    epochs = Epochs()
    task = fitted(MappingBias(50), epochs)
    assert same(task.network.state_dict(), epochs.networks[1])
    assert not same(epochs.networks[1], epochs.networks[2])
    assert same(epochs.begun[2], epochs.networks[1]) and same(epochs.begun[1], epochs.networks[0])


def test_what_is_judged_is_what_is_validated(monkeypatch):
    """The projected network, by the metric that Lightning logs."""
    scores, score = [], BiasColumns._score
    monkeypatch.setattr(BiasColumns, "_score", lambda *given: scores.append(score(*given)) or scores[-1])
    epochs = Epochs()
    fitted(MappingBias(50, each="epoch"), epochs)
    assert scores == pytest.approx(epochs.accuracies, abs=1e-3)
    for state in epochs.networks:  # of its 16 columns a half, and those that were constrained before and lie still
        assert (~banned(state["conv2.weight"]).flatten(1).any(1)).sum() >= 8


def test_gradients_are_summed_once_a_step_and_begin_anew_each_epoch(monkeypatch):
    from hwaware.callbacks import bias

    counted = []
    choose = bias.choose_columns
    monkeypatch.setattr(bias, "choose_columns", lambda *given: counted.append(given[0]) or choose(*given))
    task = fitted(MappingBias(0, each="epoch"), epochs=2)
    assert [set(sums) for sums in counted] == [{"conv1", "conv2", "linear"}] * 2
    assert all(sums["conv1"].shape == task.network.conv1.weight.shape for sums in counted)
    assert not counted[0]["conv1"].equal(counted[1]["conv1"])


class Free(Callback):
    """After each step, which of a layer's columns are free of banned states."""

    def __init__(self) -> None:
        self.columns = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.columns.append((~banned(pl_module.network.conv2.weight.detach()).flatten(1).any(1)).tolist())


def test_columns_are_chosen_once_and_kept_after_every_step():
    free = Free()
    fitted(MappingBias(50), free, epochs=2)
    steps = len(free.columns) // 2
    chosen = free.columns[steps - 1]
    assert sum(chosen) == 8 and sum(free.columns[0]) < 8
    assert all(now or not kept for step in free.columns[steps:] for now, kept in zip(step, chosen, strict=True))


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_network(tmp_path):
    # Checkpoints are at steps 5, 10 (an epoch's last, before it is validated), 15, 20 (the run's last), 25 and 30.
    more = ("--checkpoint.every_n_train_steps", 5, "--trainer.max_epochs", 3, "--model.optimizer.init_args.lr", 0.1)
    run(*command(tmp_path / "whole", *more, percent=30))
    for attempt, (step, point) in enumerate([(8, "batch_start"), (10, "batch_start"), (18, "batch_end"), (30, "end")]):
        killer = ("--trainer.callbacks", "tests.tiny.KillAt", "--trainer.callbacks.step", step)
        killer += ("--trainer.callbacks.point", point, *(("--ckpt_path", "last") if attempt else ()))
        done = run_process(*command("killed", *more, *killer, percent=30), cwd=tmp_path)
        assert done.returncode == -signal.SIGKILL, done.stderr
    run(*command(tmp_path / "killed", *more, "--ckpt_path", "last", percent=30))
    assert same(exported(tmp_path / "whole"), exported(tmp_path / "killed"))


@pytest.mark.slow
def test_two_processes_choose_the_same_columns(tmp_path):
    two = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.callbacks", "tests.tiny.SaveEachRank")
    done = run_process(*command(tmp_path, *two, "--trainer.max_epochs", 1, percent=30), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, other = (torch.load(tmp_path / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert same(one, other)
    free = ~banned(one["conv2.weight"]).flatten(1).any(1)
    assert free.sum() == 5  # 30 % of 16 columns, rounded up


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            (f"{ENCODING}.mapping", "offset", f"{ENCODING}.scale", "tensor", f"{ENCODING}.format", "continuous"),
            "the mapping 'offset' has none",
        ),
        (("--model.hardware", "null"), "bias needs a network in memory cells, but there is no hardware"),
        (("--model.bias.percent", "120"), "bias percent=120.0 must lie in [0, 100]"),
        (("--model.bias.banned", "{0: [0, 1, 2, 3]}"), "slice 0 has no state left"),
        (("--model.bias.banned", "{0: 2}"), "model.bias"),
    ],
)
def test_bad_input(options, reason, tmp_path, capsys):
    assert main([str(part) for part in command(tmp_path, *options)]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
