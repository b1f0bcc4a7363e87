"""Chips that differ as wholes: what a die draws, and what its cells do with it under every law."""

import json
import math

import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.compensation.methods.rvw import ReadVerifyWrite
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import held_by
from hwaware.hardware import HardwareOptions, device_names, hardware_from_plain, load_device, load_hardware
from hwaware.hardware.devices import device_from_dict, device_to_dict
from hwaware.hardware.devices.die import Die, die_of
from hwaware.hardware.devices.die_spread import DieSpread
from hwaware.nn import convert
from hwaware.training import AgeDistribution, TrainingNoise, install_noise

WEEK_S, YEAR_S = 604800.0, 31536000.0
SPREAD = {"drift_mean": 0.1, "drift_std": 0.2, "window": 0.05, "programming": 0.5}
WARM = {"temperature_c": 55.0, "activation_energy_ev": 0.6}


def _spread(**share):
    return load_device("reram_cmo", die_spread=share)


def _die(device, **own):
    return Die(device=device, g_min_us=device.g_min_us, g_max_us=device.g_max_us, temperature_c=None, **own)


def _draws(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("share", "std"), [(0.1, 0.0986), (0.5, 0.44)])
def test_factors_are_gaussians_about_one_that_are_cut_off(share, std):
    found = torch.tensor([die_of(_spread(drift_mean=share), seed).drift_mean for seed in range(4000)])
    assert found.mean() == pytest.approx(1, abs=4 * share / math.sqrt(4000))
    assert found.std() == pytest.approx(std, rel=0.04)
    assert (found - 1).abs().max() <= min(3 * share, 1)


def test_constants_are_drawn_by_the_dies_number_each_by_itself():
    device = load_device("reram_cmo", die_spread=SPREAD | {"temperature_k": 5.0}, **WARM)
    one = die_of(device, 7)
    die_of.cache_clear()
    torch.manual_seed(1)
    assert die_of(device, 7) == one != die_of(device, 8)
    names = ("drift_mean", "drift_std", "programming", "g_min_us", "g_max_us", "temperature_c")
    drawn = torch.tensor([[getattr(die_of(device, seed), name) for name in names] for seed in range(1000)]).T
    assert (torch.corrcoef(drawn) - torch.eye(len(names))).abs().max() < 0.13
    # Another constant's spread changes nothing, nor does another device's law.
    assert die_of(_spread(drift_mean=0.1), 7).drift_mean == one.drift_mean
    pcm = die_of(load_device("pcm", die_spread={"drift_mean": 0.2}), 7)
    assert pcm.drift_mean - 1 == pytest.approx(2 * (one.drift_mean - 1))


def test_chips_of_one_die_have_its_constants():
    device = _spread(drift_mean=0.1, chips_per_die=4)
    factors = [die_of(device, seed).drift_mean for seed in range(2_000_000, 2_000_012)]
    assert len(set(factors)) == 3 and len(set(factors[:4])) == 1


@pytest.mark.parametrize("name", device_names())
def test_errors_and_drift_scale_under_every_law(name):
    device, n = load_device(name), 100_000
    die = _die(device, drift_mean=1.5, drift_std=0.5, programming=1.3)
    for share in (0.4, 0.9):
        target_us = device.g_min_us + share * (device.g_max_us - device.g_min_us)
        target = torch.full((n,), target_us, dtype=torch.float64)
        ours, theirs = (one.programmed_us(target.clone(), _draws(n, 0)) - target for one in (die, device))
        assert torch.allclose(ours, 1.3 * theirs, atol=1e-9)
        change = die.drifted_us(target.clone(), target.clone(), WEEK_S, _draws(n, 1)) - target
        mean, std = (
            float(torch.as_tensor(of(target[:1], WEEK_S)).squeeze())
            for of in (device.drift_mean_us, device.drift_std_us)
        )
        noise = max(std, 1e-9) / math.sqrt(n)
        assert change.mean() == pytest.approx(1.5 * mean, abs=6 * noise)
        assert change.std() == pytest.approx(0.5 * std, rel=0.03, abs=1e-9)


def test_targets_beyond_the_dies_window_become_its_end():
    device = load_device("reram_cmo", programming_std_offset_us=0.0, programming_std_slope=0.0, stuck_on=0.1)
    die = Die(device=device, g_min_us=12.0, g_max_us=80.0, temperature_c=None)
    target = torch.tensor([9.0, 50.0, 88.0])
    assert die.programmed_us(target.clone(), _draws(3, 0)).tolist() == [12.0, 50.0, 80.0]
    assert die.limits_us == (12.0, 80.0) and device.limits_us == (device.g_min_us, device.g_max_us)
    # Anything above zero can be held by a cell of 'zero', but not be written.
    zero = Die(device=load_device("pcm"), g_min_us=2.0, g_max_us=20.0, temperature_c=None)
    assert zero.limits_us == (0.0, None)
    assert zero.programmed_us(torch.full((1000,), 25.0), lambda: torch.zeros(1000)).max() == 20.0


def test_a_warmer_die_is_as_an_older_one():
    device = load_device("reram_cmo", die_spread={"temperature_k": 10.0}, **WARM)
    warm = next(die for seed in range(50) if (die := die_of(device, seed)).temperature_c > 60)
    same = load_device("reram_cmo", **WARM | {"temperature_c": warm.temperature_c})
    assert warm.equivalent_age_s(YEAR_S) == same.equivalent_age_s(YEAR_S) > device.equivalent_age_s(YEAR_S)


def test_an_age_that_only_the_coldest_dies_law_does_not_cover():
    device = load_device("reram_cmo", die_spread={"temperature_k": 5.0}, temperature_c=25.0, activation_energy_ev=0.6)
    with pytest.raises(UserError, match=r"age_s=1.0 is below .* on the coldest chips: use 0 .* or at least 3\.\d+ s"):
        device.check_age(1.0)
    device.check_age(4.0)
    load_device("reram_cmo").check_age(1.0)


def test_files_have_it_where_it_is_set(tmp_path):
    device = _spread(drift_mean=0.1, chips_per_die=2)
    assert device_to_dict(device)["die_spread"] == {"drift_mean": 0.1, "chips_per_die": 2}
    assert device_from_dict(device_to_dict(device)) == device
    assert "die_spread" not in load_device("reram_cmo").params()
    assert _spread(drift_mean=0.0) == load_device("reram_cmo")
    options = HardwareOptions(device={"name": "reram_cmo", "die_spread": SPREAD})
    hardware = options.placement.default
    assert hardware.device.die_spread == DieSpread(**SPREAD)
    plain = json.loads(json.dumps(hardware.plain()))
    assert hardware_from_plain(plain) == hardware
    model = nn.Sequential(nn.Linear(8, 4))
    convert(model, hardware)
    assert json.loads(held_by(model))["die_spread"] == SPREAD


@pytest.mark.parametrize(
    ("spread", "reason"),
    [
        ({"window": 0.3}, "die_spread.window=0.3 makes the window of some chips empty: .* must be below 0.2716"),
        ({"window": 0.5}, "die_spread.window=0.5 makes the window of some chips empty"),
        ({"drift": 0.1}, "die_spread of device 'reram_cmo' has no 'drift'. Did you mean 'drift_"),
        ({"drift_mean": -0.1}, r"die_spread.drift_mean=-0.1 must be a share in \[0, 0.5\]; 0.1 for 10 %"),
        ({"drift_std": 10}, "die_spread.drift_std=10.0 must be a share"),
        ({"programming": math.nan}, "die_spread.programming=nan must be a share"),
        ({"temperature_k": 5}, "die_spread.temperature_k=5.0 needs temperature_c and activation_energy_ev"),
        ({"temperature_k": -5}, "die_spread.temperature_k=-5.0 must be 0 K or more"),
        ({"chips_per_die": 0}, "die_spread.chips_per_die=0 must be a whole number of at least 1"),
        (0.1, "die_spread of device 'reram_cmo': 0.1 is not a table of keys and values"),
    ],
)
def test_what_can_not_be(spread, reason):
    with pytest.raises(UserError, match=reason):
        load_device("reram_cmo", die_spread=spread)


def test_a_temperature_that_can_not_be():
    with pytest.raises(UserError, match=r"die_spread.temperature_k=200.0 is too large: temperature_c=-545"):
        load_device("reram_cmo", die_spread={"temperature_k": 200.0}, **WARM)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(300, 300, bias=False)).eval()


def _converted(layer, **settings):
    convert(layer, load_hardware("reram_cmo", read_coefficient_us=0.0, **settings))
    return layer


def test_a_chips_cells_have_its_dies_constants(layer):
    model = _converted(layer, die_spread={"drift_mean": 0.3, "programming": 0.3})
    for seed in (3, 4):
        chip = Chip.program(model, seed)
        die, device = chip.die("0"), chip.die("0").device
        target = model[0].hardware.encode(chip.targets["0"].latent / chip.targets["0"].scale)[0]
        inside = (target > 25) & (target < 70)  # far from the clamp
        new, old = (chip.conductances_at("0", age_s)[0] for age_s in (0.0, YEAR_S))
        relative = ((new - target) / device.programming_std_us(target))[inside]
        assert relative.std() == pytest.approx(die.programming, rel=0.03)
        change = (old - new)[inside]
        assert change.mean() == pytest.approx(die.drift_mean * device.drift_mean_us(target, YEAR_S), abs=0.03)


def test_chips_of_one_die_differ_in_their_cells_alone(layer):
    model = _converted(layer, die_spread={"drift_mean": 0.3, "chips_per_die": 2})
    chips = [Chip.program(model, seed) for seed in (10, 11, 12)]
    mean = [torch.cat(chip.conductances_at("0", 10 * YEAR_S)).mean().item() for chip in chips]
    assert abs(mean[0] - mean[1]) < 0.05 < abs(mean[2] - mean[0])
    assert not torch.equal(*(chip.weight_at("0", YEAR_S) for chip in chips[:2]))


def test_reference_columns_and_stuck_cells_are_the_dies(layer):
    model = _converted(layer, mapping="offset_reference", stuck_on=0.5, die_spread={"window": 0.1})
    chip = Chip.program(model, 5)
    die = chip.die("0")
    (cells,), (stuck,) = chip.conductances_at("0", 0.0), chip.stuck_cells("0")
    assert die.g_max_us != die.device.g_max_us
    assert torch.allclose(cells[stuck], torch.tensor(die.g_max_us))
    assert chip.reference_at("0", 0.0).max() == pytest.approx(die.g_max_us)


def test_no_spread_changes_nothing(layer):
    plain = Chip.program(_converted(layer), 1)
    die = plain.die("0")
    assert (die.drift_mean, die.drift_std, die.programming) == (1, 1, 1) and not die._has_own_window


def test_training_goes_by_the_device_itself():
    noisy = []
    for spread in (None, SPREAD):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 5))
        convert(model, load_hardware("reram_cmo", die_spread=spread))
        install_noise(model, TrainingNoise(ages=AgeDistribution()))
        torch.manual_seed(1)
        noisy.append(model.train()(torch.ones(2, 20)))
    assert torch.equal(*noisy)


def test_what_is_rewritten_is_written_as_the_die_writes(layer):
    model = _converted(layer, die_spread={"window": 0.1})
    chip = next(chip for seed in range(50) if (chip := Chip.program(model, seed)).die("0").g_max_us < 75)
    state = ReadVerifyWrite(share=0.01, max_writes=1).fit(chip, YEAR_S, None)
    wanted = chip.targets["0"].latent.flatten()[state["0/where"]]
    # The largest weights want more than the die's window has.
    assert state["0/values"].abs().max() < 0.95 * wanted.abs().max()
