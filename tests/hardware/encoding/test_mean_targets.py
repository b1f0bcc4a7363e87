"""Conductances chosen by what they are expected to be read as."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.export.bundle import read_bundle, write_bundle
from hwaware.hardware import load_hardware
from hwaware.hardware.encoding.mapping import MAPPINGS
from hwaware.nn import analog_layers, convert

HOUR_S, TEN_YEARS_S = 3600.0, 315_360_000.0


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_chips_are_read_as_wanted_on_average_at_the_age(mapping):
    hardware = load_hardware("reram_cmo", mapping=mapping, mean_target_ages_s=(TEN_YEARS_S,), columns=1)
    u = torch.tensor([-0.8, -0.2, 0.05, 0.5])
    model = nn.Sequential(nn.Linear(40_000, 4, bias=False))
    model[0].weight.data = u[:, None].repeat(1, 40_000)
    model[0].weight.data[:, 0] = 1.0
    convert(model, hardware, corrected=False)
    errors = (Chip.program(model, 3).weight_at("0", TEN_YEARS_S) - model[0].effective_weight())[:, 1:]
    assert errors.mean(1).abs().max() < 1e-3


def test_over_several_ages_it_holds_on_average():
    hardware = load_hardware(
        "reram_cmo", mapping="offset", mean_target_ages_s=(HOUR_S, TEN_YEARS_S), headroom_us=(4, 4)
    )
    v = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64)
    cells = hardware.encode(v)
    young, old = (hardware.encoding.expected(hardware.device, cells, age_s) for age_s in (HOUR_S, TEN_YEARS_S))
    wanted = hardware.encoding.realised(v.clone())
    torch.testing.assert_close((young + old) / 2, wanted, atol=1e-5, rtol=0)
    assert (young - wanted).abs().min() > 1e-3


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_targets_tell_their_positions(mapping):
    hardware = load_hardware("reram_cmo", mapping=mapping, mean_target_ages_s=(TEN_YEARS_S,), headroom_us=(4, 4))
    v = torch.linspace(-0.9, 0.9, 31, dtype=torch.float64)
    torch.testing.assert_close(hardware.encoding.position(hardware.device, hardware.encode(v)), v, atol=1e-5, rtol=0)


def test_a_bundle_gives_the_network_back(tmp_path):
    model, other = (nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4)) for _ in range(2))
    x = torch.randn(5, 16)
    convert(model, load_hardware("reram_cmo", mean_target_ages_s=(TEN_YEARS_S,), headroom_us=(5, 2.5), parallel=3))
    bundle = read_bundle(write_bundle(tmp_path / "bundle", model, "two"))
    bundle.install(other)
    torch.testing.assert_close(other(x), model(x), atol=1e-4, rtol=1e-4)
    assert analog_layers(other)["0"].hardware == analog_layers(model)["0"].hardware


def test_training_knows_of_it():
    kinds = {"plain": (), "mean": (TEN_YEARS_S,)}
    shift = {}
    for name, ages_s in kinds.items():
        hardware = load_hardware("reram_cmo", mapping="offset", mean_target_ages_s=ages_s, headroom_us=(4, 4))
        u = torch.linspace(-0.9, 0.9, 11, dtype=torch.float64)
        shift[name] = hardware.encoding.moments(hardware.device, u, TEN_YEARS_S)[0].abs().max().item()
    assert shift["mean"] < shift["plain"] / 20


def test_bad_input():
    with pytest.raises(UserError, match="moves targets off the grid of format"):
        load_hardware("reram_cmo", levels=15, mean_target_ages_s=(HOUR_S,))
    with pytest.raises(UserError, match=r"age_s=0\.5"):
        load_hardware("reram_cmo", mean_target_ages_s=(0.5,))
