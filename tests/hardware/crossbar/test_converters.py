"""DACs and ADCs about analog layers: rounding, ranges, the curve of the voltage, noise."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.errors import UserError
from hwaware.hardware import Converters, Crossbar, Ranges, load_hardware
from hwaware.nn import Measured, calibrate, convert, to_digital
from tests.placing import on

LINEAR = load_hardware("reram_cmo", kappa=None)
YEAR_S = 31536000.0


RANGES = Ranges(2.0, 5.0)


def _with(converters, hardware=LINEAR):
    return replace(hardware, crossbar=Crossbar(converters=converters))


def _layer(converters, ranges=RANGES, kind=None):
    torch.manual_seed(0)
    model = nn.Sequential(kind or nn.Linear(30, 20)).eval()
    convert(model, _with(converters))
    model[0].ranges = ranges
    return model[0]


def _rounded(values, limit, bits):
    """By the definition, without torch's operator."""
    step = limit / (2 ** (bits - 1) - 1)
    return (values / step).round().mul(step).clamp(-limit, limit)


KINDS = {
    "linear": (lambda: nn.Linear(30, 20), (7, 30)),
    "sequence": (lambda: nn.Linear(30, 20), (2, 7, 30)),
    "conv": (lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1), (2, 3, 9, 9)),
    "no bias": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding_mode="reflect", padding=1, bias=False), (2, 4, 9, 9)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_against_the_definition(kind):
    make, shape = KINDS[kind]
    layer, x = _layer(Converters(dac_bits=5, adc_bits=6), kind=make()), 1.5 * torch.randn(shape)
    exact = layer.apply_weight(_rounded(x, 2.0, 5), layer.weight)
    expected = _rounded(exact, 5.0, 6)
    if layer.bias is not None:
        expected = expected + layer.along_channels(layer.bias, exact)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


def test_the_curve_of_the_voltage_against_the_definition():
    layer, x = _layer(Converters(adc_bits=16, input_kappa=2.0, input_range=0.5)), torch.randn(7, 30)
    bent = torch.sinh(x.clamp(-2, 2) * 0.5 * 2 / 2.0) * 2.0 / (0.5 * 2)
    torch.testing.assert_close(layer(x), F.linear(bent, layer.weight, layer.bias), atol=1e-3, rtol=0)
    assert (layer(x) - F.linear(x, layer.weight, layer.bias)).abs().max() > 0.01
    straight = _layer(Converters(adc_bits=16, input_kappa=2.0, input_range=0.01), ranges=Ranges(6.0, 5.0))
    torch.testing.assert_close(straight(x), F.linear(x, layer.weight, layer.bias), atol=0.01, rtol=0)


@pytest.mark.parametrize("r", [1.0, 0.25])
def test_noise_and_adc_step_are_fixed_in_current(r):
    """σ = output_noise·y_max/r, a step of y_max/(r·127): in the units of y both grow as the range shrinks."""
    layer, x = _layer(Converters(output_noise=0.01, input_range=r)).train(), torch.randn(2000, 30)
    noise = layer(x) - F.linear(x, layer.weight, layer.bias)
    assert noise.std().item() == pytest.approx(0.01 * 5.0 / r, rel=0.02)
    layer = _layer(Converters(adc_bits=8, input_range=r))
    steps = (layer(x) - layer.bias) * r * 127 / 5.0
    torch.testing.assert_close(steps, steps.round(), atol=2e-3, rtol=0)
    assert steps.round().unique().numel() > 20


def test_gradients_pass_the_rounding_and_stop_at_the_cut_off():
    layer = _layer(Converters(dac_bits=4, adc_bits=4), ranges=Ranges(1.0, 100.0))
    x = torch.linspace(-2, 2, 30).view(1, 30).requires_grad_()
    layer(x).sum().backward()
    inside = x.detach().abs() < 1 + 0.5 / 7  # what rounds to the last of seven levels is not cut off yet
    torch.testing.assert_close(x.grad, layer.weight.sum(0) * inside)
    assert layer.weight.grad.abs().sum() > 0


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5))


def _calibrated(converters, network=None):
    model = network or _network()
    convert(model, _with(converters))
    draw = torch.Generator().manual_seed(1)
    calibrate(model, lambda net, x: net(x), [torch.randn(8, 3, 8, 8, generator=draw) for _ in range(3)])
    return model.eval()


def test_ranges_are_percentiles_of_the_exact_network():
    converters = Converters(dac_bits=8, adc_bits=8, percentile=99.0)
    network = _network()
    model = _calibrated(converters, network=copy.deepcopy(network).train())
    draw = torch.Generator().manual_seed(1)
    x = torch.cat([torch.randn(8, 3, 8, 8, generator=draw) for _ in range(3)])
    first, hidden = network[0](x), network[:3](x)
    without_bias = first - network[0].bias.view(-1, 1, 1)
    expected = [[x, without_bias], [hidden, network[3](hidden) - network[3].bias]]
    found = Measured.of(model).ranges
    for name, values in zip(("0", "3"), expected, strict=True):
        wanted = [value.abs().flatten().quantile(0.99).item() for value in values]
        assert found[name] == pytest.approx(wanted, rel=1e-5)
    largest = _calibrated(Converters(dac_bits=8, percentile=100.0), network=network)
    assert largest[0].ranges.x_max == x.abs().max().item()


def test_eight_bits_hardly_change_a_network_and_three_do():
    x = torch.randn(64, 3, 8, 8)
    exact = _network().eval()(x)
    error = {}
    for bits in (3, 8):
        model = _calibrated(Converters(dac_bits=bits, adc_bits=bits))
        with torch.no_grad(), drift_free(model):
            error[bits] = ((model(x) - exact).norm() / exact.norm()).item()
    assert error[8] < 0.03 < 0.15 < error[3]


def test_keys_are_those_of_the_digital_network_and_ranges_come_along():
    digital = _network()
    converters = Converters(dac_bits=8)
    model = _calibrated(converters)
    assert list(model.state_dict()) == list(digital.state_dict())
    ranges = Measured.of(model).ranges
    back = to_digital(copy.deepcopy(model))
    assert type(back[0]) is nn.Conv2d and not hasattr(back[0], "hardware") and Measured.of(back).ranges == ranges
    x = torch.randn(4, 3, 8, 8)
    convert(back, _with(converters))
    assert torch.equal(back(x), model(x))
    Measured(ranges=ranges).give(digital)
    assert Measured.of(digital).ranges == ranges
    with pytest.raises(UserError, match="for layer 'other', which the network does not have"):
        Measured(ranges={"other": (1.0, 1.0)}).give(digital)


def test_output_noise_is_the_chips_own_and_off_without_one():
    model, x = _calibrated(Converters(output_noise=0.01)), torch.randn(4, 3, 8, 8)
    assert torch.equal(model(x), model(x))
    with drift_free(model):
        assert torch.equal(model(x), model(x))

    def outputs(seed, age_s, purpose="evaluation"):
        torch.manual_seed(torch.seed())  # the global generator has no part in it
        with torch.no_grad(), Chip.program(model, seed).at(age_s, purpose):
            return model(x), model(x)

    first, second = outputs(1, 0.0)
    assert not torch.equal(first, second)  # fresh for every output
    again, _ = outputs(1, 0.0)
    assert torch.equal(first, again)
    silent = _with(model[0].converters, load_hardware("reram_cmo", kappa=None, read_coefficient_us=0.0))
    with torch.no_grad(), Chip.program(on(model, silent), 1).at(YEAR_S) as chip:
        one = chip(x)
    with torch.no_grad(), Chip.program(on(model, silent), 1).at(YEAR_S, "calibration") as chip:
        assert not torch.equal(chip(x), one)
    assert model[0]._output_draws is None


def test_half_precision_and_autocast():
    model, x = _calibrated(Converters(dac_bits=8, adc_bits=8)), torch.randn(4, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), model(x), atol=0.05, rtol=0.05)


def test_a_layer_of_zeros_has_a_range():
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    convert(model, _with(Converters(dac_bits=8, adc_bits=8)))
    calibrate(model, lambda net, x: net(x), [torch.zeros(2, 4)])
    assert torch.equal(model(torch.zeros(2, 4)), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "nothing is converted"),
        ({"dac_bits": 1}, r"dac_bits=1 must be a whole number in \[2, 16\]"),
        ({"adc_bits": 17}, r"adc_bits=17 must be"),
        ({"dac_bits": 8, "percentile": 50}, r"percentile=50 must lie in \(50, 100\]"),
        ({"dac_bits": 8, "percentile": 100.1}, "percentile=100.1"),
        ({"dac_bits": 8, "samples": 0}, "samples=0 must be at least 1"),
        ({"adc_bits": 8, "input_range": 0.0}, r"input_range=0.0 must lie in \(0, 1\]"),
        ({"adc_bits": 8, "input_range": 1.5}, r"input_range=1.5"),
        ({"adc_bits": 8, "input_kappa": -1.0}, "input_kappa=-1.0 times input_range=1.0 must lie in"),
        ({"output_noise": -0.1}, "output_noise=-0.1 must be 0 or more"),
        ({"output_noise": math.nan}, "output_noise=nan must be 0 or more"),
        ({"dac_bits": 8, "input_kappa": 2.0, "input_range": 0.5}, "a narrow input_range has no cost"),
    ],
)
def test_settings_that_cannot_be(settings, reason):
    with pytest.raises(UserError, match=reason):
        Converters(**settings)


def test_one_curve_only_and_no_forward_without_ranges():
    converters = Converters(adc_bits=8, input_kappa=2.0)
    with pytest.raises(
        UserError, match=r"input_kappa=2.0 is the cell's I-V curve, which the encoding has as kappa=2.0"
    ):
        _with(converters, load_hardware("reram_cmo"))
    convert(model := _network(), _with(converters))
    with pytest.raises(UserError, match="has converters but no ranges"):
        model(torch.randn(1, 3, 8, 8))
