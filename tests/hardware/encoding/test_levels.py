"""Programmable levels: what is written, what training sees, what comes back."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.compensation import ReadVerifyWrite
from hwaware.errors import UserError
from hwaware.hardware import hardware_from_plain, load_hardware
from hwaware.hardware.encoding import MAPPINGS
from hwaware.hardware.encoding.formats import quantise
from hwaware.nn import convert, effective_state_dict, to_digital
from hwaware.nn.weights.tables import NoiseTable
from hwaware.training import AgeDistribution, TrainingNoise, install_noise
from tests.placing import on

YEAR_S = 31536000.0
EXACT = {"programming_std_offset_us": 0.0, "programming_std_slope": 0.0}


def _model(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 36, 5))
    convert(model, device)
    return model


def test_levels_are_even_over_the_window_and_zero_is_one():
    u = torch.linspace(-1, 1, 1001)
    found = quantise(u, 7).unique()
    torch.testing.assert_close(found, torch.linspace(-1, 1, 15))
    assert (quantise(u, 7) - u).abs().max() <= 1 / 14 + 1e-6
    assert torch.equal(quantise(-u, 7), -quantise(u, 7))


def test_the_gradient_passes_straight_through():
    u = torch.linspace(-1, 1, 9).requires_grad_()
    quantise(u, 3).square().sum().backward()
    torch.testing.assert_close(u.grad, 2 * quantise(u.detach(), 3))


@pytest.mark.parametrize("scale", ["tensor", "channel"])
@pytest.mark.parametrize("kappa", [None, 2.0])
def test_drift_free_training_and_an_exact_chip_have_the_same_levels(kappa, scale):
    device = load_hardware("reram_cmo", levels=15, kappa=kappa, scale=scale, clamp="zero", **EXACT)
    model = _model(device).eval()
    for name, layer in (("0", model[0]), ("2", model[2])):
        effective = layer.effective_weight()
        s = layer.weight_scale()
        if scale == "tensor":
            assert (effective / s).round(decimals=5).unique().numel() == 15  # the last bits may differ by place
        torch.testing.assert_close(layer.realised_weight(), effective, rtol=1e-5, atol=1e-7)
        layer.train()
        torch.testing.assert_close(layer.realised_weight(), effective, rtol=1e-5, atol=1e-7)
        chip = Chip.program(model, seed=1)
        torch.testing.assert_close(chip.weight_at(name, 0.0), effective, rtol=1e-4, atol=1e-6)
        u = layer.weight / s
        assert (effective / s - torch.sinh(2 * u) / 3.62686 if kappa else effective / s - u).abs().max() < 0.18


@pytest.mark.parametrize("range_fraction", [1.0, 3 / 7])
@pytest.mark.parametrize("kappa", [None, 2.0])
def test_effective_weights_convert_back_to_themselves(kappa, range_fraction):
    device = load_hardware("reram_cmo", levels=15, kappa=kappa, range_fraction=range_fraction)
    model = _model(device)
    state = effective_state_dict(model)
    digital = to_digital(copy.deepcopy(model))
    torch.testing.assert_close(digital.state_dict(), state)
    convert(digital, device)
    torch.testing.assert_close(effective_state_dict(digital), state, rtol=1e-5, atol=1e-7)
    assert state["2.weight"].round(decimals=6).unique().numel() <= 2 * device.encoding.steps + 1


def test_a_narrower_range_uses_fewer_levels():
    assert load_hardware("reram_cmo", levels=15, range_fraction=0.5714286).encoding.steps == 4
    with pytest.raises(UserError, match=r"range_fraction=0.5 is not one of the 15 levels.* nearest is 0.571"):
        load_hardware("reram_cmo", levels=15, range_fraction=0.5)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_moments_are_those_of_the_written_weights(mapping):
    """What training is told of a weight between two levels, against chips."""
    device = load_hardware("reram_cmo", mapping=mapping, levels=15, kappa=None)
    u = torch.tensor([-1.0, -0.3, 0.05, 0.6])
    n = 50_000
    model = nn.Sequential(nn.Linear(n, len(u), bias=False))
    model[0].weight.data = u[:, None].expand(-1, n).clone()
    convert(model, device)
    error = Chip.program(model, seed=3).weight_at("0", YEAR_S) - model[0].effective_weight()
    mean, std = device.encoding.moments(device.device, u.double(), YEAR_S)
    torch.testing.assert_close(error.double().mean(1), mean, atol=1e-3, rtol=0)
    torch.testing.assert_close(error.double().std(1), std, atol=1e-3, rtol=0.05)


def test_training_noise_lies_about_the_levels():
    device = load_hardware("reram_cmo", levels=15)
    model = _model(device).train()
    layer = model[2]
    install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (3600.0,))))
    with torch.no_grad():
        draws = torch.stack([layer.realised_weight() for _ in range(300)])
    error = ((draws - layer.effective_weight()) / layer.weight_scale()).double()
    u = (layer.weight / layer.weight_scale()).detach().double()
    mean, std = device.encoding.moments(device.device, u, 3600.0)
    off_boundaries = (error.mean(0) - mean).abs() < 0.05  # where the table's nearest position lies on another level
    assert off_boundaries.float().mean() > 0.985
    np.testing.assert_allclose(error.mean(0)[off_boundaries], mean[off_boundaries], atol=6 * std.max() / 300**0.5)
    assert (error.std(0) / std)[off_boundaries].mean().item() == pytest.approx(1, abs=0.01)


def test_gradient_of_the_weights_is_that_without_levels():
    plain, levels = (_model(load_hardware("reram_cmo", levels=n))[2] for n in (None, 15))
    downstream = torch.randn(5, 216)
    grads = []
    for layer in (plain, levels):
        (layer.realised_weight() * downstream).sum().backward()
        grads.append(layer.weight.grad)
    largest = plain.weight.abs() == plain.weight.abs().max()
    torch.testing.assert_close(grads[0][~largest], grads[1][~largest])
    assert (grads[0] - grads[1])[largest].abs() > 0  # through the scale the rounding is part of the weights


def test_stuck_cells_in_training_leave_the_others_on_their_levels():
    device = load_hardware("reram_cmo", levels=15, kappa=None, stuck_off=0.3)
    model = _model(device).train()
    install_noise(model, TrainingNoise())
    layer = model[2]
    layer.noise = NoiseTable(torch.zeros(len(layer.noise)), torch.zeros(len(layer.noise)))
    with torch.no_grad():
        u = layer.realised_weight() / layer.weight_scale()
    torch.testing.assert_close(u, quantise(u, 7), atol=2e-3, rtol=0)


def test_rewriting_aims_at_the_levels():
    device = load_hardware("reram_cmo", levels=15, clamp="zero", **EXACT)
    model = _model(device).eval()
    chip = Chip.program(model, seed=1)
    method = ReadVerifyWrite(share=1.0, tolerance=1e-6)
    with drift_free(model):
        exact = model[2].realised_weight()
    with chip.at(YEAR_S), method.installed(model, method.fit(chip, YEAR_S, None)):
        torch.testing.assert_close(model[2].realised_weight(), exact, rtol=1e-3, atol=1e-5)


def test_a_chip_has_the_levels_of_the_layers_hardware():
    exact = {"kappa": None, "clamp": "zero", **EXACT}
    model = _model(load_hardware("reram_cmo", levels=15, **exact))
    for levels in (15, 7):
        chip = Chip.program(on(model, load_hardware("reram_cmo", levels=levels, **exact)), seed=1)
        u = chip.weight_at("2", 0.0) / model[2].weight_scale()
        torch.testing.assert_close(u, quantise(u, levels // 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("levels", [-3, 0, 1, 2, 16])
def test_levels_that_cannot_be(levels):
    with pytest.raises(UserError, match=f"levels={levels} must be an odd whole number of at least 3"):
        load_hardware("reram_cmo", levels=levels)


def test_a_share_of_a_level_is_refused():
    with pytest.raises(UserError, match=r"levels=15\.5 must be an odd whole number"):
        load_hardware("reram_cmo", levels=15.5)


def test_what_is_not_set_is_not_recorded():
    plain, levels = load_hardware("reram_cmo"), load_hardware("reram_cmo", levels=15.0)
    assert "levels" not in plain.encoding.plain()["format"] | plain.params()
    assert levels.params()["levels"] == 15 and '"levels": 15}' in json.dumps(levels.params())
    assert hardware_from_plain(levels.plain()) == levels
    linear = load_hardware("reram_cmo", kappa=None)  # whose default is not None
    assert linear.params()["kappa"] is None and hardware_from_plain(linear.plain()) == linear
