"""Each device's samples against its closed form, and against another simulator's samples."""

import csv
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import device_names, load_device, load_hardware
from hwaware.hardware.devices.censored import censored_moments, std_of
from hwaware.hardware.encoding import MAPPINGS
from hwaware.nn import convert
from tests.conftest import ROOT

YEAR_S = 31536000.0
REFERENCE = ROOT / "tests" / "reference"


@pytest.mark.parametrize(("low", "high"), [(9.0, 88.2), (0.0, None)])
@pytest.mark.parametrize("mean", [7.5, 9.0, 10.0, 50.0, 88.0, 92.0])
def test_censored_moments_against_quadrature(mean, low, high):
    std = 1.3
    density = stats.norm(mean, std).pdf
    top = mean + 12 * std

    def moment(power):
        def clamped(x):
            return min(max(x, low), high if high is not None else math.inf) ** power * density(x)

        return integrate.quad(clamped, mean - 12 * std, top, points=sorted({low, high or low}), limit=400)[0]

    expected_mean = moment(1)
    expected_std = math.sqrt(max(moment(2) - expected_mean**2, 0))
    got_mean, got_std = censored_moments(torch.tensor(mean).double(), torch.tensor(std).double(), low, high)
    assert got_mean.item() == pytest.approx(expected_mean, abs=1e-6)
    assert got_std.item() == pytest.approx(expected_std, abs=1e-4)


def test_a_cell_without_spread_is_clamped_exactly():
    mean, std = censored_moments(torch.tensor([5.0, 20.0, 99.0]).double(), torch.zeros(3).double(), 9.0, 88.0)
    torch.testing.assert_close(mean, torch.tensor([9.0, 20.0, 88.0]).double())
    assert std.max() < 1e-9


def _cells_at(hardware, age_s, n=200_000):
    """Conductances of many cells of a few targets, by way of a chip: {target: samples}."""
    layer = nn.Linear(n, 5, bias=False)
    u = torch.tensor([-1.0, -0.4, 0.0, 0.1, 1.0])
    layer.weight.data = u[:, None].expand(5, n).clone()
    model = nn.Sequential(layer)
    convert(model, hardware, corrected=False)
    chip = Chip.program(model, seed=7)
    cells = chip.conductances_at("0", age_s)
    targets = hardware.encode(hardware.encoding.window_position(u / layer.weight_scale().flatten()))
    return [(target[i].item(), g[i]) for target, g in zip(targets, cells, strict=True) for i in range(len(u))]


@pytest.mark.parametrize("age_s", [0.0, 1.0, 3600.0, 10 * YEAR_S])
@pytest.mark.parametrize("clamp", ["window", "zero"])
@pytest.mark.parametrize("name", device_names())
def test_samples_agree_with_the_closed_form(name, clamp, age_s):
    if (name, clamp) == ("pcm", "window"):
        pytest.skip("its law takes the clamp 'zero' only")
    hardware = load_hardware(name, clamp=clamp, stuck_on=0.0, stuck_off=0.0)
    for target, g in _cells_at(hardware, age_s):
        mean, std = (m.item() for m in hardware.device.cell_moments(torch.tensor([target]).double(), age_s))
        n = g.numel()
        assert g.double().mean().item() == pytest.approx(mean, abs=5 * std / math.sqrt(n) + 1e-4)
        # A clamped cell is far from Gaussian: its own fourth moment says how well the spread is known.
        centred = g.double() - g.double().mean()
        kurtosis = (centred**4).mean().item() / max((centred**2).mean().item() ** 2, 1e-300)
        tolerance = 5 * std * math.sqrt(max(kurtosis - 1, 0) / (4 * n)) + 1e-4
        assert g.double().std().item() == pytest.approx(std, abs=tolerance)


def test_against_another_simulator():
    """IBM's aihwkit, 200,000 samples a point, within 5 standard errors + 1 %."""
    presets = {"ReRamCMO_acc2": "reram_cmo", "ReRamCMO_acc0.2": "reram_cmo_acc0.2"}
    presets |= {"ReRamWan2022_g40": "reram_wan2022", "PCMLike_g25": "pcm"}
    compared = 0
    with open(REFERENCE / "aihwkit_conductance.csv") as file:
        for row in csv.DictReader(file):
            if row["model"] not in presets:
                continue
            # It does not clamp CMO cells that are just programmed to the window.
            window = "CMO" in row["model"] and row["stage"] != "prog"
            device = load_device(presets[row["model"]], clamp="window" if window else "zero")
            target = torch.tensor([float(row["g_target_uS"])]).double()
            mean, std = (m.item() for m in device.cell_moments(target, float(row["t_s"])))
            # Its read noise of idle PCM cells follows what was programmed, ours the target.
            apart = 0.025 if row["model"] == "PCMLike_g25" and target == 0 else 0.0
            assert abs(mean - float(row["mean_uS"])) < 5 * float(row["se_mean"]) + 0.01 * std + apart, row
            assert abs(std - float(row["std_uS"])) < 5 * float(row["se_std"]) + 0.01 * std + apart, row
            compared += 1
    assert compared == 374


def test_known_drift_of_cmo():
    device = load_device("reram_cmo")
    g = torch.tensor([50.0])
    assert device.drift_mean_us(g, 10 * YEAR_S) == pytest.approx(-1.742, abs=1e-3)
    assert device.drift_std_us(g, 10 * YEAR_S) == pytest.approx(1.234, abs=1e-3)
    assert device.drift_mean_us(g, 604800.0) == pytest.approx(-1.185, abs=1e-3)
    assert device.programming_std_us(g).item() == pytest.approx(0.5757, abs=1e-4)


def test_relative_drift_knows_no_time():
    device = load_device("reram_relative", relative_drift=0.2, clamp="zero")
    g = torch.tensor([40.0]).double()
    early, late = device.cell_moments(g, 1.0), device.cell_moments(g, 10 * YEAR_S)
    assert early == late
    assert early[1].item() == pytest.approx(8.0, rel=1e-6)
    assert device.cell_moments(g, 0.0)[1].item() < 1e-9


@pytest.mark.parametrize("age_s", [-1.0, math.nan, math.inf])
def test_an_impossible_age_is_refused(age_s):
    with pytest.raises(UserError, match="is not an age"):
        load_device("reram_relative").check_age(age_s)


def test_an_age_below_the_laws_first_second_is_refused():
    with pytest.raises(UserError, match="at least 1 s"):
        load_device("reram_cmo").check_age(0.5)
    load_device("reram_relative").check_age(0.5)


@pytest.mark.parametrize("range_fraction", [1.0, 0.5])
@pytest.mark.parametrize("kappa", [None, 1.0, 2.0])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_weight_moments_against_chips(mapping, kappa, range_fraction):
    """The moments that training uses, against the realised weights of a chip with the curve exactly applied."""
    device = load_hardware("reram_cmo", mapping=mapping, kappa=kappa, range_fraction=range_fraction)
    u = torch.tensor([-1.0, -0.3, -0.02, 0.0, 0.05, 0.6])
    n = 50_000
    model = nn.Sequential(nn.Linear(n, len(u), bias=False))
    model[0].weight.data = 0.25 * u[:, None].expand(-1, n).clone()
    convert(model, device, corrected=False)
    weight = Chip.program(model, seed=3).weight_at("0", YEAR_S).double() / 0.25
    exact = model[0].effective_weight().double() / 0.25
    mean, std = device.encoding.moments(device.device, u.double(), YEAR_S)
    error = weight - exact
    np.testing.assert_allclose(error.mean(1), mean, atol=1e-3 + 5 * std.max().item() / math.sqrt(n))
    np.testing.assert_allclose(error.std(1), std, rtol=0.02, atol=1e-3)


def test_where_there_is_no_spread_the_gradient_is_none():
    variance = torch.tensor([4.0, 0.0, -1e-17], requires_grad=True)
    std = std_of(variance)
    std.sum().backward()
    assert std.tolist() == [2, 0, 0] and variance.grad.tolist() == [0.25, 0, 0]


def test_wan_interpolates_in_log_time_and_goes_on_beyond_two_days():
    device, g = load_device("reram_wan2022"), torch.tensor([20.0]).double()
    spread = {age_s: device.cell_moments(g, age_s)[1].item() for age_s in (1.0, math.sqrt(86400.0), 86400.0, 172800.0)}
    first, middle, day, two_days = spread.values()
    assert first == pytest.approx(device.cell_moments(g, 0.0)[1].item()) == pytest.approx(2.0229, abs=1e-3)
    assert middle == pytest.approx((first + day) / 2, rel=1e-6) and day == pytest.approx(3.909, abs=1e-3)
    later = device.cell_moments(g, 172800.0**2)[1].item()  # twice the logarithm of the last time
    assert later - first == pytest.approx(2 * (two_days - first), rel=0.01)  # but for the clamp at 0
    with pytest.raises(UserError, match="at least 1 s"):
        device.check_age(0.1)


@pytest.mark.parametrize("name", ["reram_wan2022", "pcm", "reram_powerlaw"])
def test_a_cell_keeps_its_path(name):
    """What a cell is at one age says much about what it is later: not drawn anew."""
    device = load_hardware(name, mapping="offset")
    model = nn.Sequential(nn.Linear(5000, 1, bias=False))
    model[0].weight.data.fill_(0.1)
    model[0].weight.data[0, 0] = 1.0
    convert(model, device, corrected=False)
    chip = Chip.program(model, seed=5)
    (day,), (year,) = (chip.conductances_at("0", age_s, purpose) for age_s, purpose in ((86400.0, "a"), (YEAR_S, "b")))
    assert np.corrcoef(day[0, 1:], year[0, 1:])[0, 1] > 0.6


def test_power_law_goes_up_or_down_with_the_state():
    device = load_hardware("reram_powerlaw", programming_std_slope=0.0, mapping="offset", clamp="zero")
    model = nn.Sequential(nn.Linear(2000, 1, bias=False))
    model[0].weight.data.fill_(0.5)
    model[0].weight.data[0, 0] = 1.0
    convert(model, device, corrected=False)
    (g,) = Chip.program(model, seed=5).conductances_at("0", YEAR_S)
    (target,) = device.encode(torch.tensor([0.5]))
    factors = (g[0, 1:] / target).unique()
    grown = YEAR_S**0.01
    assert len(factors) == 2 and factors.tolist() == pytest.approx([1 / grown, grown], rel=1e-5)
