"""Moments of the weights, in closed form, against cells that are drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hwaware.chip import Chip
from hwaware.hardware import device_names, load_hardware
from hwaware.hardware.encoding.mapping import MAPPINGS
from hwaware.nn import convert
from hwaware.training.retention import error_table

CELLS = 200_000
U = (-1.0, -0.6, 0.0, 0.02, 0.5)
YEAR_S = 31_536_000.0
CASES = [
    (name, mapping, clamp, kappa)
    for name in device_names()
    if name != "diware2023"  # digits, of which tests/hardware/encoding/test_bit_sliced.py has the same
    for mapping in MAPPINGS
    for clamp in ("window", "zero")
    for kappa in ("linear", 2.0)
    if not (name == "pcm" and clamp == "window")  # refused
]


def _drawn(hardware, age_s):
    """Errors ``(ŵ - w_eff)/s`` of so many cells for each of the weights, ``[len(U), CELLS]``."""
    layer = torch.nn.Linear(CELLS + 1, len(U), bias=False)
    layer.weight.data = torch.tensor(U)[:, None].repeat(1, CELLS + 1)
    layer.weight.data[:, 0] = 1.0
    model = torch.nn.Sequential(layer)
    convert(model, hardware, corrected=False)
    return (Chip.program(model, 3).weight_at("0", age_s) - model[0].effective_weight())[:, 1:].double()


def _check(hardware, ages_s):
    for age_s in ages_s:
        errors = _drawn(hardware, age_s)
        mean, std = hardware.encoding.moments(hardware.device, torch.tensor(U, dtype=torch.float64), age_s)
        sampling = 4 * errors.std(1) / CELLS**0.5
        assert ((errors.mean(1) - mean).abs() <= 0.003 + sampling).all(), (age_s, errors.mean(1), mean)
        wide = errors.std(1) > 1e-4  # below is what single precision makes of a cell without errors
        torch.testing.assert_close(std[wide], errors.std(1)[wide], rtol=0.02, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mapping", "clamp", "kappa"), CASES)
def test_cells_have_the_moments(name, mapping, clamp, kappa):
    # One reference column for each row of weights, so that cells of a row err apart from one another.
    working = {"format": "continuous", "stuck_on": 0.0, "stuck_off": 0.0}
    hardware = load_hardware(name, mapping=mapping, clamp=clamp, kappa=kappa, **working)
    ages_s = [0.0, max(3600.0, hardware.device.youngest_s), YEAR_S, 10 * YEAR_S]
    _check(hardware, ages_s if hardware.device.has_time_law else [0.0, YEAR_S])


@pytest.mark.parametrize("name", ["reram_cmo", "reram_wan2022"])
@pytest.mark.parametrize("combine", ["mean", "median"])
def test_so_have_cells_in_parallel_with_headroom(name, combine):
    settings = {"parallel": 5, "combine": combine, "headroom_us": (2, 1)}
    _check(load_hardware(name, mapping="differential", kappa=2.0, **settings), [10 * YEAR_S])


def test_the_retention_loss_is_what_cells_err_by():
    """Where the slope of the curve at the target would tell something else: a decay by a third, through κ = 2."""
    hardware, age_s = load_hardware("pcm", mapping="differential", kappa=2.0), 10 * YEAR_S
    table = error_table(hardware, (age_s,))
    at = (torch.tensor(U) + 1) / 2 * (len(table) - 1)
    expected = _drawn(replace(hardware, device=replace(hardware.device, read_scale=0.0)), age_s).square().mean(1)
    torch.testing.assert_close(table.value[at.round().long()].double(), expected, rtol=0.03, atol=1e-4)
