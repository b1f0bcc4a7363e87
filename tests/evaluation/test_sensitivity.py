"""How far answers move with one layer in aged cells, and keeping the worst layers digital."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.evaluation.sensitivity import Probe, sensitivity
from hwaware.hardware import KeepDigital, load_hardware
from hwaware.nn import convert
from hwaware.results.csv import write_csv
from hwaware.results.sensitivity import read_sensitivity
from hwaware.results.summary import known
from hwaware.training import distillation_loss
from tests.command_line import FINETUNE, NO_DEVICE, pretrained_weights, run

AGE_S = 315_360_000.0


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 4)).eval()


@pytest.fixture
def probe():
    return Probe(
        predict=lambda model, batch: model(batch),
        divergence=lambda output, exact: distillation_loss(output, exact, temperature=1.0),
        batches=[torch.randn(64, 8), torch.randn(64, 8)],
    )


def test_a_layers_damage_is_that_of_a_chip_in_which_the_others_are_exact(network, probe):
    convert(network, load_hardware("reram_cmo", headroom_us=(5, 2.5)))
    (first, *_) = found = sensitivity(network, probe, age_s=AGE_S, chip_seeds=[7])
    assert [one.rank for one in found] == [1, 2, 3] and sum(one.share_percent for one in found) == pytest.approx(100)
    wide = nn.Sequential(*(network[place] for place in range(5)))
    with torch.no_grad():
        exact = [network(batch).clone() for batch in probe.batches]
        layer = wide.get_submodule(first.layer)
        layer.hardware = layer.hardware.with_parallel(first.parallel)
        layer._installed = Chip.program(wide, 7).weight_at(first.layer, AGE_S)
        moved = [probe.divergence(wide(batch), answer) for batch, answer in zip(probe.batches, exact, strict=True)]
    measured = torch.stack(moved).mean().item()
    # A small difference of single-precision divergences, which processors round in their own ways.
    assert first.noise_nats == pytest.approx((measured - first.bias_nats) * first.parallel, rel=1e-2)


def test_what_is_measured_with_many_cells_is_what_one_cell_does_on_average(network, probe):
    """Where damage is small enough to add: of the first chips' mean, extrapolated, and of single cells."""
    convert(network, load_hardware("reram_cmo", headroom_us=(5, 2.5)))
    found = {one.layer: one for one in sensitivity(network, probe, age_s=AGE_S, chip_seeds=range(20))}
    with torch.no_grad():
        exact = [network(batch).clone() for batch in probe.batches]
        layer, alone = network[0], []
        for seed in range(40):
            layer._installed = Chip.program(network, seed).weight_at("0", AGE_S)
            moved = [probe.divergence(network(x), answer) for x, answer in zip(probe.batches, exact, strict=True)]
            alone.append(torch.stack(moved).mean().item())
    assert found["0"].noise_nats == pytest.approx(sum(alone) / 40, rel=0.25)


def test_bias_is_told_from_spread(network, probe):
    """Without headroom the cells that idle at the window's end err one way only; with it they do not."""
    biased = {}
    for headroom in ((0, 0), (5, 2.5)):
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
        convert(model, load_hardware("reram_cmo", headroom_us=headroom))
        biased[headroom] = sum(one.bias_nats for one in sensitivity(model, probe, age_s=AGE_S, chip_seeds=[7]))
    assert biased[0, 0] > biased[5, 2.5]


def test_tied_layers_drift_together_and_a_layer_of_zeros_has_no_relative_error(probe):
    tied = nn.Linear(8, 8)
    model = nn.Sequential(nn.Linear(8, 8), tied, nn.Linear(8, 8), nn.Linear(8, 2)).eval()
    model[2].weight = tied.weight
    nn.init.zeros_(model[3].weight)
    convert(model, load_hardware("reram_cmo", mapping="offset"))
    found = sensitivity(model, probe, age_s=AGE_S, chip_seeds=[7])
    assert {one.layer: one.cells for one in found} == {"0": 64, "1": 64, "3": 16}
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
    assert [one.layer for one in read_sensitivity(folder / "sensitivity.csv")] == [line["layer"] for line in lines]
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
        (["--chips", "10000000000"], "chips=10000000000 must be at most 1,000,000"),
        (["--samples", "1000000"], "1000000 calibration images were requested, but there are 143"),
        (["--samples", "0"], "samples=0 must be at least 1"),
        (["--age_s", "-1"], "age_s=-1"),
        (NO_DEVICE, "there is no hardware to drift on: give one, e.g. --model.hardware.device.name reram_cmo"),
    ],
)
def test_bad_input(tmp_path, capsys, options, reason):
    arguments = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path]
    assert main(["sensitivity", *map(str, arguments), *options]) == 2
    assert reason in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_wrong_files_of_sensitivities(tmp_path):
    file = tmp_path / "sensitivity.csv"
    with pytest.raises(UserError, match="there is no file"):
        read_sensitivity(file)
    file.write_text("rank,layer\n1,conv1\n")
    with pytest.raises(UserError, match="has no column 'weights'"):
        read_sensitivity(file)
    columns = "rank,layer,weights,cells,age_s,parallel,weight_error,bias_nats,noise_nats,noise_std,share_percent"
    file.write_text(f"{columns}\n1,conv1,many,2,3,4,5,6,7,8,9\n")
    with pytest.raises(UserError, match="line 2: invalid literal"):
        read_sensitivity(file)
    file.write_text(f"{columns}\n")
    with pytest.raises(UserError, match="has no layers"):
        read_sensitivity(file)


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


@pytest.mark.parametrize("settings", [{}, {"combine": "median", "parallel": 3}])
def test_a_layer_of_zeros_has_no_relative_error_and_is_read_back(settings, network, probe, tmp_path):
    with torch.no_grad():
        network[2].weight.zero_()
    convert(network, load_hardware("reram_cmo", **settings))
    found = sensitivity(network, probe, age_s=AGE_S, chip_seeds=[1, 2])
    zeros = next(one for one in found if one.layer == "2")
    assert math.isnan(zeros.weight_error) and all(math.isfinite(one.damage_nats) for one in found)
    lines = [asdict(one) for one in found]
    path = write_csv(
        tmp_path / "sensitivity.csv", lines[0], ([known(value) for value in one.values()] for one in lines)
    )
    assert [asdict(one) | {"weight_error": 0} for one in read_sensitivity(path)] == [
        one | {"weight_error": 0} for one in lines
    ]
