"""``--trainer.strategy fsdp2`` on two processes (gloo, CPU)."""

from __future__ import annotations

import csv

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.tasks.fully_sharded import OLDEST_TORCH, refuse_other_sharding
from tests.command_line import FINETUNE, measured, run
from tests.side_by_side import run_side_by_side

pytestmark = pytest.mark.skipif(torch.__version__ < OLDEST_TORCH, reason=f"fsdp2 needs torch {OLDEST_TORCH}")

#: Converters' ranges are measured on the shards; one process has a validation batch more than the other.
OPTIONS = (
    *("--model.name", "tiny_test_vit", "--model.hardware.crossbar.converters", "{dac_bits: 8, adc_bits: 8}"),
    *("--model.optimizer", "torch.optim.AdamW", "--model.optimizer.lr", 0.001, "--trainer.gradient_clip_val", 1),
    *("--model.distillation", "{temperature: 2.0, weight: 0.5}", "--trainer.devices", 2),
    *("--data.train_rows", "[0,640]", "--data.val_rows", "[640,769]", "--data.batch_size", 32),
    *("--data.eval_batch_size", 64, "--trainer.val_check_interval", 0.5),
)
#: Chips are aged in the midst of training, and at its end.
AGED = ("--evaluation.every_n_epochs", 1, "--evaluation.networks", "[finetuned]", "--evaluation.ages_s", "[315360000]")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("tiny_test_vit").state_dict(), path)
    return path


def fit(weights, folder, strategy, *more):
    where = ("--model.weights", weights, "--trainer.default_root_dir", folder)
    return ["fit", "--config", FINETUNE, *where, *OPTIONS, "--trainer.strategy", strategy, *more]


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=1e-5)


def logged(folder):
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_sharded_run_that_is_killed_and_resumed_ends_as_that_of_ddp(weights, tmp_path):
    ddp, fsdp = tmp_path / "ddp", tmp_path / "fsdp"
    dying = ("--trainer.callbacks", "tests.tiny.DieAt", "--trainer.callbacks.batches", 7)
    commands = {
        "whole": fit(weights, ddp, "ddp", "--evaluation.networks", "[]"),
        "killed": fit(weights, fsdp, "fsdp2", *dying),
        "resumed": fit(weights, fsdp, "fsdp2", "--ckpt_path", "last", *AGED),
    }
    assert run_side_by_side(commands.values(), tmp_path) == [[0, 1, 0], [0, 1, 0]]

    expected, first, second = (
        root / "finetune" / version for root, version in ((ddp, "version_0"), (fsdp, "version_0"), (fsdp, "version_1"))
    )
    losses = {row["step"]: row["train/loss"] for row in logged(first) + logged(second) if "train/loss" in row}
    assert losses == pytest.approx(
        {row["step"]: row["train/loss"] for row in logged(expected) if "train/loss" in row}, rel=1e-4
    )
    close(load_file(second / "model.safetensors"), load_file(expected / "model.safetensors"))

    ours, theirs = (torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (second, expected))
    assert {type(value) for value in ours["state_dict"].values()} == {torch.Tensor}
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    close(ours["state_dict"], theirs["state_dict"])
    (ours,), (theirs,) = ours["optimizer_states"], theirs["optimizer_states"]
    assert ours["param_groups"] == theirs["param_groups"] and ours["state"].keys() == theirs["state"].keys()
    for number, state in ours["state"].items():
        close(state, theirs["state"][number])

    single = ("--trainer.devices", 1, "--trainer.strategy", "auto", "--trainer.default_root_dir", tmp_path / "drift")
    again = ("--config", FINETUNE, "--model.weights", weights, *OPTIONS, *single)
    run("drift", *again, *AGED, "--weights", second / "model.safetensors")
    rows = measured(second / "rows.csv")
    assert len(rows) == 4 and measured(tmp_path / "drift" / "finetune" / "version_0" / "rows.csv") == rows


REFUSED = {
    "one process": (["--trainer.strategy", "fsdp2"], "'fsdp2' shards over processes, but there is one"),
    "FSDP1": (["--trainer.strategy", "fsdp", "--trainer.devices", "2"], "'fsdp' does not support analog layers"),
    "Lightning's": (
        ["--trainer.strategy", "{class_path: lightning.pytorch.strategies.ModelParallelStrategy}"],
        "trainer.strategy ModelParallelStrategy does not support analog layers: use fsdp2",
    ),
    "averages": (
        ["--trainer.strategy", "fsdp2", "--trainer.devices", "2", "--trainer.callbacks", "EMAWeightAveraging"],
        "averaged weights",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options, reason = REFUSED[case]
    recipe = ("fit", "--config", FINETUNE, "--model.name", "tiny_test_vit", "--model.weights", str(weights))
    assert main([*recipe, *options]) == 2
    error = capsys.readouterr().err
    assert reason in error and len(error.splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["fsdp", "fsdp_cpu_offload", "ModelParallelStrategy", "model_parallel"])
def test_other_names_for_sharding_are_refused(name):
    with pytest.raises(UserError, match="use fsdp2"):
        refuse_other_sharding(name)
    for other in ("fsdp2", "ddp", "auto", None):
        refuse_other_sharding(other)
