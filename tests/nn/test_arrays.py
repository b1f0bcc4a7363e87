"""Layers whose weights are cut into arrays, each with converters of its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import Converters, Ranges, load_hardware
from hwaware.nn import calibrate, convert, installed_weights
from hwaware.nn.conversion import _by_definition, _Convert, digits, driven, read

KINDS = {
    "linear": (lambda: nn.Linear(50, 20), (2, 7, 50), 16),
    "conv": (lambda: nn.Conv2d(10, 8, 3, stride=2, padding=1), (2, 10, 9, 9), 27),
    "groups": (lambda: nn.Conv2d(12, 8, 3, groups=2, padding_mode="reflect", padding=1), (2, 12, 9, 9), 20),
    "taps": (lambda: nn.Conv2d(3, 8, 4, stride=4), (2, 3, 8, 8), 6),
    "transposed": (lambda: nn.ConvTranspose2d(10, 6, 3, stride=2), (2, 10, 5, 5), 30),
    "series": (lambda: nn.Conv1d(10, 6, 3), (2, 10, 9), 9),
}


def _layer(make, rows, **converters):
    torch.manual_seed(0)
    model = nn.Sequential(make()).eval()
    convert(model, load_hardware("reram_cmo", kappa=None, rows=rows, converters=Converters(**converters)))
    return model[0]


def _by_arrays(layer, x, y_max, bits):
    """Array by array by the definition: all weights but one array's are set to zero."""
    total, step = 0.0, y_max / (2 ** (bits - 1) - 1)
    for part in layer.tiling.parts:
        latent = layer.latent().flatten(2) if layer.latent().ndim > 2 else layer.latent().unsqueeze(2)
        only, channels, taps = torch.zeros_like(latent), slice(*part.channels), slice(*part.taps)
        only[:, channels, taps] = latent[:, channels, taps]
        y = layer.apply_weight(x, only.view(layer.rows_shape))
        total = total + (y / step).round().clamp(-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) * step
    return layer.with_bias(total)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_array_is_read_on_its_own(kind):
    make, shape, rows = KINDS[kind]
    layer, x = _layer(make, rows, adc_bits=5), torch.randn(shape)
    assert len(layer.tiling.parts) > 2
    layer.ranges = Ranges(1.0, 0.8)
    torch.testing.assert_close(layer(x), _by_arrays(layer, x, 0.8, 5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_converters_of_many_bits_give_the_uncut_layer(kind):
    make, shape, rows = KINDS[kind]
    layer, x = _layer(make, rows, adc_bits=16, dac_bits=16), torch.randn(shape, requires_grad=True)
    layer.ranges = Ranges(8.0, 40.0)
    digital = layer.digital_class.forward(layer, x) if kind != "transposed" else F.conv_transpose2d(
        x, layer.weight, layer.bias, layer.stride
    )  # fmt: skip
    found, weight = layer(x), layer.weight
    torch.testing.assert_close(found, digital, atol=5e-3, rtol=0)
    seed = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, weight), seed), torch.autograd.grad(digital, (x, weight), seed), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_blocks_compute_the_definition(dtype, channels_last):
    form = torch.channels_last if channels_last else torch.contiguous_format
    ys = [torch.randn(3, 50, 40, 30).to(dtype).contiguous(memory_format=form).requires_grad_() for _ in range(2)]
    limit = torch.tensor(1.3, requires_grad=True)
    found = read(Converters(adc_bits=4), (2 * y for y in ys), [limit, limit], noisy=False)
    expected = sum(_by_definition(2 * y, limit, 7, 0.0, None) for y in ys)
    torch.testing.assert_close(found.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0)
    seed = torch.randn_like(found)
    ours = torch.autograd.grad(found, ys, seed, retain_graph=True)
    inside = [(2 * y.detach().float() * 7 / 1.3).round().abs() <= 7 for y in ys]
    for one, kept in zip(ours, inside, strict=True):
        torch.testing.assert_close(one, 2 * seed * kept, atol=0, rtol=0)
    cut = [steps.sign() * ~kept for steps, kept in zip(ys, inside, strict=True)]
    rounded = [((2 * y.detach().float() * 7 / 1.3).round() - 2 * y.detach().float() * 7 / 1.3) / 7 for y in ys]
    moved = sum((seed * (c + r * kept)).sum() for c, r, kept in zip(cut, rounded, inside, strict=True))
    (of_limit,) = torch.autograd.grad(found, limit, seed)
    assert of_limit.item() == pytest.approx(moved.item(), rel=2e-2)


def test_noise_is_of_every_array():
    y = torch.zeros(400, 500)
    noisy = read(Converters(output_noise=0.1), [y] * 4, [2.0] * 4, noisy=True)
    assert noisy.std().item() == pytest.approx(0.2 * 2, rel=0.02)
    draws = torch.Generator().manual_seed(1)
    drawn = read(Converters(output_noise=0.1), [y], [2.0], noisy=True, draws=draws)
    torch.testing.assert_close(drawn, torch.randn(y.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    assert not _Convert.apply(y, None, 2.0, 7, 0.0, None, y.dtype).any()


def test_ranges_of_each_array():
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(64, 40, generator=draw) * torch.linspace(0.1, 2, 40)
    for per_array in (False, True):
        converters = Converters(adc_bits=8, dac_bits=8, percentile=100.0, per_array=per_array)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(40, 6))
        convert(model, load_hardware("reram_cmo", kappa=None, rows=10, converters=converters))
        calibrate(model, lambda net, x: net(x), [x])
        weight, found = model[0].weight, model[0].ranges
        sums = [(F.linear(x[:, k : k + 10], weight[:, k : k + 10])).abs().max().item() for k in range(0, 40, 10)]
        largest = [x[:, k : k + 10].abs().max().item() for k in range(0, 40, 10)]
        assert found.x_max == pytest.approx(tuple(largest) if per_array else max(largest))
        assert found.y_max == pytest.approx(tuple(sums) if per_array else max(sums))
        exact = F.linear(x, weight, model[0].bias)
        torch.testing.assert_close(model(x), exact, atol=0.05, rtol=0)


def _codes(bits=6, slice_bits=2, **converters):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(10, 8, 3, groups=2)).eval()
    converters = Converters(**converters)
    convert(
        model,
        load_hardware(
            "diware2023", mapping="bit_sliced", bits=bits, slice_bits=slice_bits, kappa=None, rows=27,
            converters=converters,
        ),
    )  # fmt: skip
    return model


def test_each_digit_is_converted_on_its_own():
    model, x = _codes(adc_bits=4), torch.randn(2, 10, 9, 9)
    layer = model[0]
    layer.ranges = Ranges(1.0, 0.05)
    found, hardware = layer(x), layer.hardware
    scale, latent = layer.weight_scale(), layer.latent()
    cells = hardware.encode(hardware.encoding.window_position(latent / scale))
    low, high = hardware.encoding.window_us(hardware.device)
    total = layer.apply_weight(x, torch.full_like(latent, -1.0) * scale)
    for index, g in enumerate(cells):
        digit = (g - low) / (high - low) * 3  # of 0, 1, 2, 3
        unit = scale * 4.0 ** (2 - index) / 32
        for part in layer.tiling.parts:
            only = torch.zeros_like(latent)
            only[:, slice(*part.channels)] = digit[:, slice(*part.channels)]
            step = 0.05 * 4.0 ** (2 - index) / 7
            total = total + (layer.apply_weight(x, only * unit) / step).round().clamp(-7, 7) * step
    torch.testing.assert_close(found, layer.with_bias(total), atol=1e-4, rtol=0)
    seed = torch.randn_like(found)
    (grad,) = torch.autograd.grad(found, layer.weight, seed)
    assert grad.abs().sum() > 0


def test_digits_of_a_chip_are_its_own_and_repairs_still_count():
    model, x = _codes(adc_bits=16), torch.randn(2, 10, 9, 9)
    model[0].ranges = Ranges(8.0, 4.0)
    chip = Chip.program(model, seed=3)
    with chip.at(0.0), torch.no_grad():
        found = model(x)
        expected = model[0].apply_weight(x, chip.weight_at("0", 0.0), model[0].bias)
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
        with installed_weights(model, lambda name, layer: 2 * layer.realised_weight()):
            bias = model[0].bias.view(-1, 1, 1)
            torch.testing.assert_close(model(x) - bias, 2 * (found - bias), atol=0.02, rtol=0)


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_inputs_come_bit_by_bit(at_a_time):
    layer = _layer(lambda: nn.Linear(50, 20), 16, dac_bits=6, adc_bits=16, dac_slice_bits=at_a_time)
    x = torch.randn(7, 50)
    layer.ranges = Ranges(2.0, 20.0)
    x.requires_grad_()
    rounded = (x / (2 / 31)).round().clamp(-31, 31) * (2 / 31)
    found = layer(x)
    torch.testing.assert_close(found, F.linear(rounded, layer.weight, layer.bias), atol=0.05, rtol=0)
    (grad,) = torch.autograd.grad(found.sum(), x)
    inside = (x.detach() / (2 / 31)).round().abs() <= 31
    torch.testing.assert_close(grad, layer.weight.sum(0) * inside, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match=r"dac_slice_bits=8 must be a whole number from 1 to 7"):
        Converters(dac_bits=8, dac_slice_bits=8)
    with pytest.raises(UserError, match=r"dac_slice_bits=1 needs dac_bits"):
        Converters(adc_bits=8, dac_slice_bits=1)


def test_the_range_of_slices_is_measured_on_them():
    x = torch.randn(200, 40)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 6))
    converters = Converters(dac_bits=8, adc_bits=8, percentile=100.0, dac_slice_bits=1)
    convert(model, load_hardware("reram_cmo", kappa=None, converters=converters))
    calibrate(model, lambda net, x: net(x), [x])
    x_max, y_max = model[0].ranges
    assert x_max == pytest.approx(x.abs().max().item())
    slices = digits(driven(converters, x, x_max), x_max, 8, 1)
    largest = max((F.linear(one / 2**k, model[0].weight)).abs().max().item() for k, one in enumerate(slices))
    assert y_max == pytest.approx(largest, rel=1e-5)
    exact = F.linear(x, model[0].weight, model[0].bias)
    assert (model(x) - exact).norm() < 0.02 * exact.norm()
    calibrate(model, lambda net, x: net(x), [x])
    assert model[0].ranges == (x_max, y_max)
