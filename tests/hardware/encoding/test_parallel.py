"""Several cells for one, read as their mean or their median."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import Encoding, load_hardware
from hwaware.hardware.encoding.mapping import MAPPINGS
from hwaware.hardware.encoding.parallel import merged, remaining_std
from hwaware.nn import analog_layers, convert
from hwaware.training import TrainingNoise, install_noise
from hwaware.training.retention import error_table

TEN_YEARS_S = 315_360_000.0


def _network(hardware, inputs=64, outputs=24):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, outputs, bias=False))
    convert(model, hardware)
    return model


@pytest.mark.parametrize("n", [3, 4, 7, 8])
def test_the_spread_of_a_median_is_that_of_sorted_gaussians(n):
    samples = torch.randn(100_000, n)
    (median,) = merged(list(samples.unbind(1)), n, "median")
    torch.testing.assert_close(median, samples.quantile(0.5, dim=1), atol=1e-5, rtol=0)
    assert median.std().item() == pytest.approx(remaining_std(n, "median"), rel=0.02)
    assert remaining_std(n, "mean") == pytest.approx(n**-0.5)


@pytest.mark.parametrize("combine", ["mean", "median"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_chips_have_the_moments(mapping, combine):
    hardware = load_hardware(
        "reram_cmo", mapping=mapping, parallel=4, combine=combine, headroom_us=(6, 6), kappa="linear", columns=1
    )
    u = torch.tensor([-0.8, 0.0, 0.5])
    model = nn.Sequential(nn.Linear(20_000, 3, bias=False))
    model[0].weight.data = u[:, None].repeat(1, 20_000)
    model[0].weight.data[:, 0] = 1.0
    convert(model, hardware, corrected=False)
    errors = (Chip.program(model, 3).weight_at("0", TEN_YEARS_S) - model[0].effective_weight())[:, 1:].double()
    mean, std = hardware.encoding.moments(hardware.device, u.double(), TEN_YEARS_S)
    torch.testing.assert_close(errors.mean(1), mean, atol=0.001, rtol=0)
    torch.testing.assert_close(errors.std(1), std, rtol=0.03, atol=0)


def test_more_cells_only_join_those_that_are_there():
    """A chip with four cells in each place has the cells of the same chip with one."""
    found = {}
    for parallel in (1, 4):
        model = _network(load_hardware("reram_cmo", mapping="offset_reference", parallel=parallel))
        chip = Chip.program(model, 7)
        found[parallel] = chip.conductances_at("0", 3600.0), chip.reference_at("0", 3600.0)
    assert torch.equal(found[1][0][0], found[4][0][0]) and len(found[4][0]) == 4
    assert not torch.equal(found[4][0][1], found[4][0][0])
    assert not torch.equal(found[1][1], found[4][1])  # the reference is the mean of four


def test_a_weight_is_what_its_cells_conduct_together():
    hardware = load_hardware("reram_cmo", parallel=3, combine="median")
    model = _network(hardware)
    chip = Chip.program(model, 7)
    cells = chip.conductances_at("0", 3600.0)
    pair = [torch.stack(cells[k : k + 3]).median(dim=0).values for k in (0, 3)]
    weight = hardware.encoding.realised(hardware.decode(tuple(pair))) * chip.targets["0"].scale
    torch.testing.assert_close(chip.weight_at("0", 3600.0), weight)


def test_a_median_of_many_cells_is_not_moved_by_a_few_stuck_ones():
    errors = {}
    for parallel, combine in ((1, "mean"), (9, "mean"), (9, "median")):
        hardware = load_hardware("reram_cmo", stuck_on=0.02, stuck_off=0.08, parallel=parallel, combine=combine)
        model = _network(hardware)
        weight, exact = Chip.program(model, 1).weight_at("0", 0.0), analog_layers(model)["0"].effective_weight()
        errors[parallel, combine] = ((weight - exact).norm() / exact.norm()).item()
    assert errors[9, "median"] < errors[9, "mean"] / 2 < errors[1, "mean"] / 3


def test_cells_are_counted():
    for mapping, own, reference in (("differential", 2, 0), ("offset_reference", 1, 64)):
        model = _network(load_hardware("reram_cmo", mapping=mapping, parallel=5))
        assert analog_layers(model)["0"].n_cells == 5 * (64 * 24 * own + reference)


def test_training_noise_shrinks_and_stuck_cells_leave_gradients():
    stds = {}
    for parallel in (1, 16):
        model = _network(load_hardware("reram_cmo", parallel=parallel, headroom_us=(5, 2.5))).train()
        layer = model[0]
        torch.manual_seed(1)
        install_noise(model, TrainingNoise())
        stds[parallel] = (layer.realised_weight() - layer.effective_weight()).std().item()
    assert stds[16] == pytest.approx(stds[1] / 4, rel=0.1)
    retention = [error_table(load_hardware("reram_cmo", headroom_us=(9, 9), parallel=k), (1e8,)).value for k in (1, 4)]
    torch.testing.assert_close(retention[1], retention[0] / 4, rtol=0.01, atol=1e-9)
    hardware = load_hardware("reram_cmo", stuck_on=0.1, stuck_off=0.2, parallel=8, combine="median")
    model = _network(hardware).train()
    layer = model[0]
    install_noise(model, TrainingNoise())
    weight = layer.realised_weight()
    weight.sum().backward()
    assert (layer.weight.grad != 0).float().mean() > 0.99
    still = copy.deepcopy(model).eval()[0].effective_weight()
    assert ((weight - still).norm() / still.norm()).item() < 0.2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"parallel": 2, "combine": "median"}, "combine median with parallel=2 is their mean: give 3 cells or more"),
        ({"parallel": 0}, "parallel=0 must be a whole number from 1 to 4096"),
        ({"parallel": 1.5}, "parallel=1.5 must be a whole number"),
        ({"combine": "meen"}, "combine 'meen' is unknown. Did you mean 'mean'"),
    ],
)
def test_bad_input(words, reason):
    with pytest.raises(UserError, match=reason):
        Encoding(**words)
