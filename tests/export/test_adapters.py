"""A run that trains adapters: what it leaves, and what reads it."""

from __future__ import annotations

import csv
import shutil

import pytest
import torch
from safetensors.torch import load_file

from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.training import Adapters
from tests.command_line import FINETUNE, measured, pretrained_weights, run

pytestmark = pytest.mark.slow

LORA = ("--model.adapters", "{rank: 2}", "--model.clip_alpha", "null", "--model.retention", "null")


def common() -> tuple[object, ...]:
    few = ("--evaluation.n_chips", 1, "--evaluation.ages_s", "[1e8]", "--evaluation.networks", "[finetuned]")
    return ("--config", FINETUNE, "--model.weights", pretrained_weights(), *few)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs")
    run("fit", *common(), *LORA, "--trainer.max_steps", 6, "--trainer.default_root_dir", folder)
    return folder / "finetune" / "version_0"


def test_cells_keep_the_pretrained_weights_and_plain_weights_are_merged(finished):
    base, merged = load_file(pretrained_weights()), load_file(finished / "model.safetensors")
    beside = load_file(finished / "adapters.safetensors")
    assert list(merged) == list(base) and sorted(beside) == [
        f"{name}.{what}" for name in ("conv1", "conv2", "linear") for what in ("down", "up")
    ]
    for name in ("conv1", "conv2", "linear"):
        weight = base[f"{name}.weight"]
        added = 8.0 * (beside[f"{name}.up"] @ beside[f"{name}.down"].flatten(1)).view_as(weight)  # alpha 16, rank 2
        assert added.abs().max() > 1e-4
        torch.testing.assert_close(merged[f"{name}.weight"], weight + added, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(merged[key], base[key]) for key in base if not key.endswith("weight") or "bn" in key)
    with (finished / "adapters.csv").open() as file:
        (cost,) = csv.DictReader(file)
    values = 2 * (27 + 8 + 72 + 16 + 256 + 10)
    assert (int(cost["layers"]), int(cost["values"]), int(cost["bytes_stored"])) == (3, values, 2 * values)


def test_drift_repeats_the_rows_whatever_the_recipe_says_of_adapters(finished, tmp_path):
    run("drift", *common(), "--weights", finished, "--trainer.default_root_dir", tmp_path)
    assert measured(tmp_path / "finetune" / "version_0" / "rows.csv") == measured(finished / "rows.csv")


def test_a_resumed_run_ends_with_the_same_adapters(finished, tmp_path):
    last = finished / "checkpoints" / "last.ckpt"
    earlier = shutil.copy(last, tmp_path / "earlier.ckpt")
    options = ("--evaluation.networks", "[]", "--trainer.max_steps", 6, "--trainer.default_root_dir", tmp_path)
    run("fit", *common(), *LORA, *options, "--ckpt_path", earlier)
    for name in ("model.safetensors", "adapters.safetensors"):
        one, other = load_file(finished / name), load_file(tmp_path / "finetune" / "version_0" / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("push", "--out", "OUT"), "hwaware: the network has adapters beside 3 layers ('conv1'), which push does not"),
        (
            ("export", "--out", "OUT"),
            "hwaware: the network has adapters beside 3 layers ('conv1'), which a",
        ),
    ],
)
def test_what_has_no_place_for_adapters_refuses_them(command, reason, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(word) for word in (*command, *common(), "--weights", finished / "model.safetensors")]) == 2
    assert capsys.readouterr().err.startswith(reason)
    assert not any(tmp_path.iterdir())


def test_weights_without_their_adapters_or_with_anothers_are_refused(finished, tmp_path, capsys):
    copied = tmp_path / "model.safetensors"
    shutil.copy(finished / "model.safetensors", copied)
    arguments = [str(word) for word in ("drift", *common(), "--weights", copied)]
    for reason in (
        "there is no file '",
        f"'{tmp_path / 'adapters.safetensors'}' does not belong to the weights beside it",
    ):
        capsys.readouterr()
        assert main([*arguments, "--trainer.default_root_dir", str(tmp_path / "runs")]) == 2
        assert capsys.readouterr().err.startswith(f"hwaware: {reason}")
        (tmp_path / "adapters.safetensors").write_bytes(b"other")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (LORA[:4], "retention changes weights, which adapters freeze: set it to null."),
        ((*LORA, "--model.trainable", "norms"), "trainable 'norms': with adapters, nothing else is trained"),
        ((*LORA, "--model.adapters.rank", 0), "adapters rank=0 must be at least 1; 8 is usual."),
        ((*LORA, "--model.adapters.match", "[conv9]"), "adapters.match: 'conv9' matches no layer. Did you mean 'conv"),
    ],
)
def test_recipes_that_can_not_be(options, reason, tmp_path, capsys):
    arguments = ("fit", *common(), *options, "--trainer.default_root_dir", tmp_path)
    assert main([str(word) for word in arguments]) == 2
    assert reason in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_settings():
    assert Adapters(rank=4, match="head").match == ("head",) and Adapters().gain == 2.0
    with pytest.raises(UserError, match=r"^adapters alpha=0 must be above 0; 16 is usual\.$"):
        Adapters(alpha=0)
    with pytest.raises(UserError, match=r"^adapters match is empty"):
        Adapters(match=())
