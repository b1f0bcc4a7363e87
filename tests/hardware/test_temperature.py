"""Ages at another temperature than the laws': drift is accelerated, read noise is not."""

import math

import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import ages_to_evaluate
from hwaware.hardware import HardwareOptions, device_names, load_device, load_hardware
from hwaware.nn import convert

HOT = {"temperature_c": 85.0, "activation_energy_ev": 0.6}
DAY_S = 86400.0


def test_the_factor_is_arrhenius():
    device = load_device("reram_cmo", **HOT)
    expected = math.exp(0.6 / 8.617333e-5 * (1 / 298.15 - 1 / 358.15))
    assert device.equivalent_age_s(DAY_S) == pytest.approx(DAY_S * expected, rel=1e-6) and 49 < expected < 51
    assert load_device("reram_cmo", temperature_c=25.0, activation_energy_ev=1.0).equivalent_age_s(DAY_S) == DAY_S
    assert load_device("reram_cmo").equivalent_age_s(DAY_S) == DAY_S and device.equivalent_age_s(0.0) == 0
    assert load_device("reram_cmo", temperature_c=0.0, activation_energy_ev=0.6).equivalent_age_s(DAY_S) < DAY_S / 5


@pytest.mark.parametrize("name", device_names())
def test_drift_is_that_of_the_equivalent_age(name):
    """Closed form and chip, without read noise."""
    quiet = {"reram_cmo": {"read_coefficient_us": 0.0}, "pcm": {"read_scale": 0.0}}
    quiet["reram_cmo_acc0.2"] = quiet["reram_cmo"]
    pair = [load_hardware(name, **quiet.get(name, {}), **options) for options in (HOT, {})]
    hot, cold = (hardware.device for hardware in pair)
    later_s = hot.equivalent_age_s(DAY_S)
    g = torch.linspace(hot.g_min_us, hot.g_max_us, 7).double()
    torch.testing.assert_close(hot.cell_moments(g, DAY_S), cold.cell_moments(g, later_s))
    if cold.has_time_law:
        assert not torch.allclose(hot.cell_moments(g, DAY_S)[1], cold.cell_moments(g, DAY_S)[1])
    chips = []
    for hardware in pair:
        torch.manual_seed(0)
        convert(model := nn.Sequential(nn.Linear(30, 20)), hardware)
        chips.append(Chip.program(model, seed=4))
    torch.testing.assert_close(chips[0].weight_at("0", DAY_S), chips[1].weight_at("0", later_s))
    torch.testing.assert_close(chips[0].weight_at("0", 0.0), chips[1].weight_at("0", 0.0))


@pytest.mark.parametrize("name", ["reram_cmo", "pcm"])
def test_read_noise_is_that_of_the_real_age(name):
    hot, cold = load_device(name, **HOT), load_device(name)
    g = torch.full((1,), 20.0).double()
    later_s = hot.equivalent_age_s(DAY_S)

    def reading(device, age_s):  # variance that reading adds beside drift, over the squared mean for PCM's share of g
        mean, with_noise = device.cell_moments(g, age_s)
        added = with_noise**2 - device.cell_moments(g, age_s, read_noise=False)[1] ** 2
        return (added / mean**2 if name == "pcm" else added).item()

    assert reading(hot, DAY_S) == pytest.approx(reading(cold, DAY_S), rel=0.03)  # but for the state it is read at
    assert reading(cold, later_s) > 1.1 * reading(cold, DAY_S)


def test_the_laws_limit_is_of_the_equivalent_age():
    hot = load_device("reram_cmo", **HOT)
    hot.check_age(0.1)  # as five seconds at 25 °C
    cold = load_device("reram_cmo", temperature_c=-20.0, activation_energy_ev=0.6)
    with pytest.raises(UserError, match=r"age_s=10.0 is below .*use 0 \(just written\) or at least 63"):
        cold.check_age(10.0)
    with pytest.raises(UserError, match="is not an age"):
        hot.check_age(-1.0)
    assert ages_to_evaluate([hot], [0, 0.1]) == (0, 0.1)


def test_recipes_set_it_and_rows_say_it():
    recipe = HardwareOptions({"name": "reram_cmo", "temperature_c": 85, "activation_energy_ev": 0.6})
    device = recipe.placement.default.device
    assert device == load_device("reram_cmo", **HOT)
    assert device.params()["temperature_c"] == 85.0 and "temperature_c" not in load_device("reram_cmo").params()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature_c": 85.0}, "temperature_c=85.0 needs activation_energy_ev"),
        ({"activation_energy_ev": 0.6}, "activation_energy_ev=0.6 needs temperature_c"),
        ({**HOT, "temperature_c": -273.15}, "temperature_c=-273.15 must be above -273.15"),
        ({**HOT, "temperature_c": -300.0}, "temperature_c=-300.0 must be above -273.15"),
        ({**HOT, "activation_energy_ev": 0.0}, "activation_energy_ev=0.0 must be above 0"),
        ({**HOT, "activation_energy_ev": math.nan}, "is not a finite number"),
        (
            {"temperature_c": 900.0, "activation_energy_ev": 5.0},
            "accelerated or slowed by more than a factor of 1e[+]12",
        ),
        (
            {"temperature_c": -270.0, "activation_energy_ev": 0.6},
            "accelerated or slowed by more than a factor of 1e[+]12",
        ),
    ],
)
def test_what_cannot_be(options, reason):
    with pytest.raises(UserError, match=reason):
        load_device("reram_cmo", **options)
