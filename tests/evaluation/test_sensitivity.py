"""Which layers lose most, and keeping them digital."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.evaluation.sensitivity import sensitivity
from hwaware.hardware import KeepDigital, load_hardware
from hwaware.nn import convert
from tests.command_line import FINETUNE, NO_DEVICE, pretrained_weights, run

AGE_S = 315_360_000.0


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).eval()


@pytest.fixture
def agreement(network):
    """How near a network's output is to that of this one, 100 for equal."""
    x = torch.randn(64, 8)
    with torch.no_grad():
        wanted = network(x).clone()
    return lambda model: 100 - (model(x) - wanted).abs().mean().item()


def test_a_layers_loss_is_that_of_a_chip_in_which_the_others_are_exact(network, agreement):
    device = load_hardware("reram_cmo", mapping="offset")
    convert(network, device)
    (first, *others) = found = sensitivity(network, accuracy=agreement, age_s=AGE_S, chip_seeds=[7])
    assert [one.rank for one in found] == [1, 2, 3]
    assert first.loss_points > others[0].loss_points > others[1].loss_points
    chip = Chip.program(network, 7)
    with drift_free(network):
        exact = agreement(network)
        layer = network.get_submodule(first.layer)
        layer._installed = chip.weight_at(first.layer, AGE_S)
        assert exact - agreement(network) == pytest.approx(first.loss_points, abs=1e-5)


def test_what_is_kept_digital_saves_cells_and_accuracy(network, agreement):
    device = load_hardware("reram_cmo", mapping="differential")
    convert(network, device)
    found = sensitivity(network, accuracy=agreement, age_s=AGE_S, chip_seeds=[7, 8], most=3)
    with drift_free(network):
        exact = agreement(network)
    assert found[-1].kept_accuracy == pytest.approx(exact) and found[-1].kept_cells_percent == 100
    assert found[0].kept_accuracy < found[1].kept_accuracy < found[2].kept_accuracy
    assert sum(one.cells for one in found) == 2 * (8 * 16 + 16 * 16 + 16 * 4)
    few = sensitivity(network, accuracy=agreement, age_s=AGE_S, chip_seeds=[7], most=1)
    assert not math.isnan(few[0].kept_accuracy) and math.isnan(few[1].kept_accuracy)


def test_tied_layers_drift_together_and_a_layer_of_zeros_has_no_relative_error():
    tied = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), tied, nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    model[2].weight = tied.weight
    nn.init.zeros_(model[3].weight)
    convert(model, load_hardware("reram_cmo", mapping="offset"))
    x = torch.randn(16, 4)
    found = sensitivity(model, accuracy=lambda network: network(x).mean().item(), age_s=AGE_S, chip_seeds=[7])
    assert {one.layer: one.cells for one in found} == {"0": 16, "1": 16, "3": 8}
    assert found[-1].kept_cells_percent == 100
    (zero,) = (one for one in found if one.layer == "3")
    assert math.isnan(zero.weight_error)


@pytest.mark.slow
def test_the_command_ranks_and_a_recipe_keeps(tmp_path, capsys):
    arguments = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path]
    run("sensitivity", *arguments, "--chips", 1)
    folder = tmp_path / "finetune" / "version_0"
    assert (folder / "plots" / "sensitivity.png").is_file() and (folder / "config.yaml").is_file()
    with (folder / "sensitivity.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["layer"] for line in lines) == ["conv1", "conv2", "linear"]
    assert lines[0]["layer"] in capsys.readouterr().out
    field = "--model.hardware.keep_digital"
    run("drift", *arguments, f"{field}.ranking", folder / "sensitivity.csv", f"{field}.layers", 1)
    with (tmp_path / "finetune" / "version_1" / "conversion.csv").open() as file:
        converted = [line["name"] for line in csv.DictReader(file)]
    assert sorted(converted) == sorted(line["layer"] for line in lines[1:])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--chips", "0"], "chips=0 must be at least 1"),
        (["--age_s", "-1"], "age_s=-1"),
        (NO_DEVICE, "there is no hardware to drift on: give one, e.g. --model.hardware.device.name reram_cmo"),
    ],
)
def test_bad_input(tmp_path, capsys, options, reason):
    arguments = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path]
    assert main(["sensitivity", *map(str, arguments), *options]) == 2
    assert reason in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_wrong_rankings(tmp_path):
    file = tmp_path / "sensitivity.csv"
    with pytest.raises(UserError, match="there is no file"):
        KeepDigital(str(file), 1).names()
    file.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no columns 'rank' and 'layer'"):
        KeepDigital(str(file), 1).names()
    file.write_text("rank,layer\n2,b\n1,a\n3,c\n")
    assert KeepDigital(str(file), 2).names() == ("a", "b")
    with pytest.raises(UserError, match=r"layers=3 must lie in \[1, 2\]"):
        KeepDigital(str(file), 3).names()
