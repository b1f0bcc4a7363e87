"""Two processes (gloo, CPU), started by the real command."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import FINETUNE, measured, pretrained_weights, run
from tests.processes import run_process

pytestmark = pytest.mark.slow

# Importing the callback's module registers the tiny network in the processes.
TINY = (
    "--trainer.callbacks",
    "tests.tiny.KillAt",
    "--trainer.callbacks.step",
    -1,
    "--trainer.callbacks.point",
    "never",
)
TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp")


def common(command, folder):
    weights = ("--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder)
    return (command, "--config", FINETUNE, *weights, *TINY)


def test_two_processes_train_and_their_drift_rows_equal_one_processs(tmp_path):
    # Trained batch-norm statistics differ between ranks until they are synchronised.
    options = ("--model.freeze_bn_statistics", "false", "--evaluation.n_chips", 3)
    done = run_process(*common("fit", tmp_path / "two"), *TWO, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "two" / "finetune" / "version_0"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not (tmp_path / "two" / "finetune" / "version_1").exists()  # one run, one folder

    before, after = load_file(pretrained_weights()), load_file(folder / "model.safetensors")
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])

    rows = measured(folder / "rows.csv")
    assert [row.chip_seed for row in rows if row.metric == "top1" and row.age_s == 0][:3] == [2000000, 2000001, 2000002]

    weights = ("--weights", folder / "model.safetensors")
    run(*common("drift", tmp_path / "one"), *weights, "--evaluation.n_chips", 3)
    assert measured(tmp_path / "one" / "finetune" / "version_0" / "rows.csv") == rows

    # Fewer chips than processes: one has nothing to do, and says nothing.
    done = run_process(*common("drift", tmp_path / "again"), *weights, *TWO, "--evaluation.n_chips", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = measured(tmp_path / "again" / "finetune" / "version_0" / "rows.csv")
    assert again == [row for row in rows if row.chip_seed == 2000000]
    assert done.stdout.count("rows.csv") == 1


def test_two_processes_repair_alike(tmp_path):
    """What one process fits, both use; the rows are those of one process."""
    methods = "[{class_path: ChannelAffine, init_args: {steps: 2}}]"
    options = ("--evaluation.networks", "[base]", "--evaluation.n_chips", 3, "--evaluation.methods", methods)
    done = run_process(*common("compare", tmp_path / "two"), *TWO, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run(*common("compare", tmp_path / "one"), *options)
    rows = measured(tmp_path / "one" / "finetune" / "version_0" / "rows.csv")
    assert measured(tmp_path / "two" / "finetune" / "version_0" / "rows.csv") == rows
    assert {row.method for row in rows} == {"none", "channel_affine"}
