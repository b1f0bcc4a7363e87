"""The lognormal spread, and the preset of Charan et al."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import ages_to_evaluate
from hwaware.hardware import Levels, load_device, load_hardware
from hwaware.nn import convert

YEAR_S = 31536000.0
WORKING = {"stuck_on": 0.0, "stuck_off": 0.0}


def _chip(device, n=40_000):
    """A layer whose weights are all levels alike, on a chip."""
    u = torch.linspace(-1, 1, 15)
    model = nn.Sequential(nn.Linear(n, 15, bias=False))
    model[0].weight.data = u[:, None].expand(-1, n).clone()
    convert(model, device)
    return u, Chip.program(model, seed=2)


def test_the_preset_is_what_the_source_states():
    device = load_hardware("charan2020")
    cell, encoding = device.device, device.encoding
    assert (encoding.format, cell.stuck_on, cell.stuck_off, cell.log_std) == (Levels(15), 0.0175, 0.0904, 0.1)
    assert encoding.kappa is None and ages_to_evaluate([cell], [0, 1, YEAR_S]) == (0, YEAR_S)


def test_a_working_weight_is_off_by_a_lognormal_factor_at_every_age():
    u, chip = _chip(load_hardware("charan2020", **WORKING))
    young, old = chip.weight_at("0", 0.0), chip.weight_at("0", YEAR_S)
    assert torch.equal(young, old)
    assert (young[7] == 0).all()  # zero, the middle level, is exact: its cells conduct nothing
    theta = (young / u[:, None])[u.abs() > 0.01].log().double().flatten()
    assert stats.kstest(theta / 0.1, "norm").pvalue > 1e-3
    assert not stats.kstest((theta.exp() - 1)[:20_000] / 0.1, "norm").pvalue > 1e-3  # a Gaussian factor would be told


def test_moments_of_a_weight_are_those_of_the_lognormal():
    device, variance = load_hardware("charan2020"), 0.01
    mean, std = device.encoding.moments(device.device, torch.tensor([-1.0, 0.0, 3 / 7, 0.45]).double(), 1.0)
    w = torch.tensor([-1.0, 0.0, 3 / 7, 3 / 7]).double()  # 0.45 is written as 3/7
    torch.testing.assert_close(mean, w * math.expm1(variance / 2))
    expected = w.abs() * math.sqrt(math.expm1(variance) * math.exp(variance))
    torch.testing.assert_close(std, expected, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("low", "high"), [(9.0, 88.0), (0.0, 88.0)])
@pytest.mark.parametrize("target", [9.0, 12.0, 50.0, 85.0, 88.0])
def test_clamped_moments_against_quadrature(target, low, high):
    device = load_device("charan2020", g_min_us=low, g_max_us=high, clamp="window", log_std=0.3)
    density = stats.norm(0, 0.3).pdf
    ends = [math.log(limit / target) for limit in (low, high) if limit]

    def moment(power):
        def value(theta):
            return min(max(target * math.exp(theta), low), high) ** power * density(theta)

        return integrate.quad(value, -4, 4, points=ends, limit=400)[0]

    mean, std = device.cell_moments(torch.tensor([target]).double(), 1.0)
    assert mean.item() == pytest.approx(moment(1), rel=1e-7)
    assert std.item() == pytest.approx(math.sqrt(moment(2) - moment(1) ** 2), rel=1e-4)


def test_moments_have_finite_gradients_at_zero_conductance():
    g = torch.tensor([0.0, 1.0, 100.0]).double().requires_grad_()
    for clamp in ("zero", "window"):
        mean, std = load_device("charan2020", clamp=clamp).cell_moments(g, 1.0)
        (gradient,) = torch.autograd.grad((mean + std).sum(), g)
        assert gradient.isfinite().all() and mean[0] == 0 and std[0] < 1e-9


def test_fault_rates_are_per_cell():
    """Of a pair either cell may be stuck, so that nearly twice as many weights are hit."""
    device = load_hardware("charan2020", log_std=0.0)
    _, chip = _chip(device)
    for cell in chip.conductances_at("0", 0.0):
        assert (cell[7] == 100.0).float().mean().item() == pytest.approx(0.0175, abs=0.003)  # u = 0: both idle
    positive = chip.conductances_at("0", 0.0)[0]
    assert (positive[-1] == 0).float().mean().item() == pytest.approx(0.0904, abs=0.005)  # u = 1
    hit = np.mean([cell.double().mean() for cell in zip(*chip.stuck_cells("0"), strict=True) for cell in cell])
    assert hit == pytest.approx(0.0175 + 0.0904, abs=0.002)


@pytest.mark.parametrize("log_std", [-0.1, 4.0])
def test_a_spread_that_cannot_be(log_std):
    with pytest.raises(UserError, match=r"log_std=.* must lie in \[0, 3\]"):
        load_device("charan2020", log_std=log_std)
