"""Log-time drift with constants that depend on the state."""

from __future__ import annotations

import math

import pytest
import torch

from hwaware.errors import UserError
from hwaware.hardware import load_device
from hwaware.hardware.devices.laws.state_drift import StateLogTimeDrift

COMMON = {"name": "own", "g_min_us": 9.0, "g_max_us": 88.199997, "fitted_g_max_us": 100.0}


def _device(**changes):
    constants = {
        "programming_std_of_x": (0.1, 1.0),
        "drift_mean_offset_of_x": (0.0, 0.5),
        "drift_mean_slope_of_x": (0.02, 0.0, -0.4),
        "drift_std_offset_of_x": (0.3,),
        "drift_std_slope_of_x": (-0.1, 0.4),
    }
    return StateLogTimeDrift(**{**COMMON, **constants, **changes})


def test_polynomials_of_the_state():
    device, g = _device(read_std_of_x=(0.05, 0.1)), torch.tensor([10.0, 50.0]).double()
    torch.testing.assert_close(device.programming_std_us(g), torch.tensor([0.2, 0.6]).double())
    mean = torch.tensor([0.05 + 2 * (0.02 - 0.004), 0.25 + 2 * (0.02 - 0.1)]).double()
    torch.testing.assert_close(device.drift_mean_us(g, math.exp(2)), mean)
    torch.testing.assert_close(device.drift_std_us(g, math.exp(2)), torch.tensor([0.18, 0.5]).double())
    torch.testing.assert_close(device.read_std_us(g, 1.0, g), torch.tensor([0.06, 0.1]).double())
    torch.testing.assert_close(device.drift_std_us(g, math.exp(9)), torch.tensor([0.0, 1.2]).double())  # not below 0


def test_constants_that_do_not_depend_on_the_state_are_those_of_the_cmo_law():
    cmo = load_device("reram_cmo", read_coefficient_us=0.0)
    device = _device(
        programming_std_of_x=(cmo.programming_std_offset_us, 100 * cmo.programming_std_slope),
        drift_mean_offset_of_x=(0.0,),
        drift_mean_slope_of_x=(cmo.drift_mean_slope_us,),
        drift_std_offset_of_x=(cmo.drift_std_offset_us,),
        drift_std_slope_of_x=(cmo.drift_std_slope_us,),
    )
    targets = torch.linspace(9, 88.2, 20, dtype=torch.float64)
    for age_s in (0.0, 1.0, 3600.0, 315360000.0):
        for own, theirs in zip(device.cell_moments(targets, age_s), cmo.cell_moments(targets, age_s), strict=True):
            torch.testing.assert_close(own, theirs)


def test_moments_have_gradients():
    g = torch.tensor([9.0, 50.0]).double().requires_grad_()
    mean, std = _device().cell_moments(g, 100.0)
    (gradient,) = torch.autograd.grad((mean + std).sum(), g)
    assert gradient.isfinite().all() and gradient.abs().min() > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fitted_g_max_us": 0.0}, "fitted_g_max_us=0.0 of device 'own' must be above 0"),
        ({"min_age_s": -1.0}, "min_age_s=-1.0 of device 'own' must be above 0"),
        ({"drift_std_offset_of_x": (0.1, math.nan)}, "drift_std_offset_of_x=.* is not a finite number"),
        ({"measured_s": (5.0, 1.0)}, r"measured_s=\[5.0, 1.0\] of device 'own' must be a lowest and a highest value"),
        ({"measured_us": (5.0,)}, "measured_us=.* must be a lowest and a highest value"),
    ],
)
def test_constants_that_cannot_be(changes, reason):
    with pytest.raises(UserError, match=reason):
        _device(**changes)


def test_ages_younger_than_the_law():
    device = _device(min_age_s=0.1)
    device.check_age(0.1)
    with pytest.raises(UserError, match="below what the law of device 'own' covers"):
        device.check_age(0.01)
