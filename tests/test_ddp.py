"""Two processes (gloo, CPU), started by the real command."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import FINETUNE, measured, pretrained_weights, run
from tests.processes import run_process
from tests.side_by_side import run_side_by_side

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


def test_two_processes_train_age_and_repair_as_one(tmp_path):
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
    drift = (*common("drift", tmp_path / "again"), *weights, *TWO, "--evaluation.n_chips", 1)
    # What one process fits, both use.
    methods = "[{class_path: ChannelAffine, init_args: {steps: 2}}]"
    options = ("--evaluation.networks", "[base]", "--evaluation.n_chips", 3, "--evaluation.methods", methods)
    compare = (*common("compare", tmp_path / "repaired"), *TWO, *options)
    assert run_side_by_side([drift, compare], tmp_path) == [[0, 0], [0, 0]]

    again = measured(tmp_path / "again" / "finetune" / "version_0" / "rows.csv")
    assert again == [row for row in rows if row.chip_seed == 2000000]
    said = [(tmp_path / f"{rank}.log").read_text() for rank in range(2)]
    (line,) = (line for line in "".join(said).splitlines() if line.startswith(f"{len(again)} rows: "))
    assert line in said[0] and "again" in line

    run(*common("compare", tmp_path / "repaired_by_one"), *options)
    repaired = measured(tmp_path / "repaired_by_one" / "finetune" / "version_0" / "rows.csv")
    assert measured(tmp_path / "repaired" / "finetune" / "version_0" / "rows.csv") == repaired
    assert {row.method for row in repaired} == {"none", "channel_affine"}
