"""Resistance of wires, against a nodal solution of the whole array."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from nodal import currents_ua

from hwaware.errors import UserError
from hwaware.hardware.crossbar import Wires


def _pairs(*shape, low=9.0, high=88.2, seed=0, dtype=torch.float64):
    """Conductances of differential pairs side by side, of Gaussian weights."""
    *arrays, rows, columns = shape
    weights = torch.randn(*arrays, rows, columns // 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    weights = weights / weights.abs().amax((-2, -1), keepdim=True)
    return low + (high - low) * torch.stack([weights.clamp_min(0), -weights.clamp_max(0)], -1).flatten(-2)


def _nodal_us(g, wires):
    """The effective conductances themselves: what each row gives alone."""
    return torch.from_numpy(currents_ua(g.numpy(), np.eye(len(g)), wires.segment_ohm, wires.driver_ohm))


def _error(found, exact):
    """Of the columns' currents with random voltages at a half of the rows, over the exact ones (both rms)."""
    draws = torch.Generator().manual_seed(1)
    voltages = torch.rand(100, len(exact), generator=draws, dtype=exact.dtype).mul(2).sub(1).clamp_min(0)
    return float((voltages @ (found - exact)).norm() / (voltages @ exact).norm())


@pytest.mark.parametrize(
    ("shape", "wires", "limits"),
    [
        # errors without wires, in training, in evaluation: at least, at most, at most
        ((16, 16), Wires(segment_ohm=1.0), (2e-3, 1e-5, 1e-6)),
        ((64, 64), Wires(segment_ohm=1.0), (0.04, 1e-3, 1e-5)),
        ((64, 64), Wires(segment_ohm=2.5), (0.1, 5e-3, 5e-5)),
        ((64, 32), Wires(segment_ohm=2.5, driver_ohm=100.0), (0.1, 1e-2, 1e-4)),
        ((24, 64), Wires(segment_ohm=10.0, driver_ohm=50.0), (0.3, 3e-2, 2e-4)),
        ((1, 8), Wires(segment_ohm=100.0), (0.01, 3e-3, 1e-9)),
        ((8, 2), Wires(segment_ohm=0.001, driver_ohm=1000.0), (0.04, 2e-3, 1e-5)),
    ],
)
def test_currents_against_a_nodal_solution(shape, wires, limits):
    g = _pairs(*shape)
    exact = _nodal_us(g, wires)
    ideal, training, evaluation = (_error(found, exact) for found in (g, wires.training_us(g), wires.effective_us(g)))
    assert ideal > limits[0] and training < limits[1] and evaluation < limits[2], (ideal, training, evaluation)


def test_each_row_by_itself():
    # Sums over rows and columns are exact by construction: the entries tell what lies between them.
    g, wires = _pairs(48, 48, low=1.0, high=100.0), Wires(segment_ohm=2.5)
    exact = _nodal_us(g, wires)
    found = wires.effective_us(g)
    torch.testing.assert_close(found.sum(0), exact.sum(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.sum(1), exact.sum(1), rtol=1e-9, atol=0)
    assert (found - exact).abs().max() < 5e-3 * (g - exact).abs().max()


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_exact_to_first_order(method):
    g = _pairs(12, 10)

    def error(segment_ohm):
        wires = Wires(segment_ohm=segment_ohm, driver_ohm=3 * segment_ohm)
        return (getattr(wires, method)(g) - _nodal_us(g, wires)).norm()

    assert 50 < error(1.0) / error(0.1) < 150  # as the square of the resistance


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_drivers_alone(method):
    # A divider: each row's cells are in parallel behind its driver.
    g = _pairs(6, 4)
    found = getattr(Wires(segment_ohm=0.0, driver_ohm=500.0), method)(g)
    torch.testing.assert_close(found, g / (1 + 500e-6 * g.sum(-1, keepdim=True)))


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_without_resistance_nothing_changes(method):
    g = _pairs(20, 10, dtype=torch.float32)
    assert torch.equal(getattr(Wires(segment_ohm=0.0), method)(g), g)


@pytest.mark.parametrize("segment_ohm", [1e-9, 1e-4, 1e-2])
def test_little_resistance_changes_little(segment_ohm):
    # What is left for the returning current is then rounding, which is not to be blown up.
    g = _pairs(3, 64, 32, dtype=torch.float32)
    torch.testing.assert_close(Wires(segment_ohm=segment_ohm).effective_us(g), g, rtol=0.1 * segment_ohm + 1e-5, atol=0)


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_more_resistance_gives_less_current(method):
    g = _pairs(40, 20)
    ohms = [(0.0, 0.0), (0.5, 0.0), (2.0, 0.0), (2.0, 50.0), (20.0, 50.0)]
    found = [getattr(Wires(segment_ohm=segment, driver_ohm=driver), method)(g) for segment, driver in ohms]
    for less, more in pairwise(found):
        assert (more.sum(0) < less.sum(0)).all() and (more > 0).all()


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_rows_and_columns_are_alike_without_drivers(method):
    # Reciprocity: an array turned over, driven at its columns, reads the same.
    g, wires = _pairs(14, 26), Wires(segment_ohm=5.0)
    torch.testing.assert_close(getattr(wires, method)(g.T), getattr(wires, method)(g).T)


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_several_arrays_are_as_one_by_one(method):
    g, wires = _pairs(2, 3, 30, 16, dtype=torch.float32), Wires(segment_ohm=2.5, driver_ohm=20.0)
    together = getattr(wires, method)(g)
    for index in np.ndindex(2, 3):
        torch.testing.assert_close(together[index], getattr(wires, method)(g[index]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
def test_cells_that_are_not_there_change_nothing(method):
    g, wires = _pairs(20, 12), Wires(segment_ohm=5.0, driver_ohm=20.0)
    padded = torch.zeros(32, 16, dtype=g.dtype)
    padded[:20, :12] = g
    found = getattr(wires, method)(padded)
    torch.testing.assert_close(found[:20, :12], getattr(wires, method)(g))
    assert not found[20:].any() and not found[:, 12:].any()
    assert not getattr(wires, method)(torch.zeros(2, 8, 8)).any()


@pytest.mark.parametrize("method", ["training_us", "effective_us"])
@pytest.mark.parametrize("shape", [(256, 128), (512, 256)])
def test_single_precision(method, shape):
    g, wires = _pairs(*shape), Wires(segment_ohm=2.5, driver_ohm=100.0)
    found, exact = getattr(wires, method)(g.float()), getattr(wires, method)(g)
    torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=1e-5)


def test_solution_for_equal_voltages_has_converged():
    # 512 pairs wide, where it takes the most steps.
    wires, g = Wires(segment_ohm=2.5, driver_ohm=100.0), _pairs(512, 1024, dtype=torch.float32)
    found = wires._currents(g)
    again = g * (1 - wires._drop(found, -1) - wires._drop(found, -2))
    assert (again - found).norm() < 5e-3 * found.norm()


def test_gradients_of_training():
    g = _pairs(2, 5, 4).requires_grad_()
    wires = Wires(segment_ohm=200.0, driver_ohm=300.0)
    assert torch.autograd.gradcheck(wires.training_us, (g,))
    assert not wires.effective_us(g).requires_grad


@pytest.mark.parametrize("field", ["segment_ohm", "driver_ohm"])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_impossible_resistances_are_refused(field, value):
    with pytest.raises(UserError, match=rf"wires: {field}={value} must be a finite resistance of 0 ohm or more"):
        Wires(**{"segment_ohm": 1.0, field: value})


def test_settings():
    assert Wires(**Wires(segment_ohm=2.5).settings()) == Wires(segment_ohm=2.5)
    assert Wires(segment_ohm=2.5).settings() == {"segment_ohm": 2.5, "driver_ohm": 0.0}
