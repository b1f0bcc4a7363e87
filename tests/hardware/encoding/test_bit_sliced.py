"""Weights as digits in cells: what is written, what chips and training make of it, what comes back."""

import copy

import pytest
import torch
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.compensation import ReadVerifyWrite, VeraPlus
from hwaware.errors import UserError
from hwaware.hardware import Codes, hardware_from_plain, load_hardware
from hwaware.hardware.encoding import MAPPINGS
from hwaware.hardware.encoding.mapping import bit_sliced
from hwaware.nn import convert, effective_state_dict, to_digital
from hwaware.training import (
    AgeDistribution,
    RetentionLoss,
    TrainingNoise,
    install_noise,
    install_retention,
    retention_loss,
)
from hwaware.training.retention import error_table
from tests.placing import on

YEAR_S = 31536000.0
EXACT = {"programming_std_offset_us": 0.0, "programming_std_slope": 0.0, "clamp": "zero"}
FIXED = {"scale": "fixed", "fraction_bits": 6}
SCALES = [{}, {"scale": "channel"}, FIXED]


def _device(**settings):
    return load_hardware("reram_cmo", **{"mapping": "bit_sliced", "kappa": None} | settings)


def _moments(hardware, u, age_s):
    return hardware.encoding.moments(hardware.device, u.double(), age_s)


def _model(device, factor=3.0):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 36, 5))
    for layer in (model[0], model[2]):
        layer.weight.data.mul_(factor / layer.weight.abs().max())
    convert(model, device)
    return model


def _one_layer(device, u, n):
    """A layer whose rows are all of one weight."""
    model = nn.Sequential(nn.Linear(n, len(u), bias=False))
    model[0].weight.data = u[:, None].expand(-1, n).clone()
    convert(model, device)
    return model


def test_known_conductances():
    """Code 0 is -1, 128 is 0 and 255 the largest; 1:1.67:2.33:3 are the states of a window from 10 to 30 µS."""
    mapping = bit_sliced(Codes(8, 2))
    cells = mapping.encode(torch.tensor([-1.0, 0.0, 1 / 128, 1.0]), 10.0, 30.0)
    expected = [[10, 23.3333, 23.3333, 30], [10, 10, 10, 30], [10, 10, 10, 30], [10, 10, 16.6667, 30]]
    torch.testing.assert_close(torch.stack(cells), torch.tensor(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("bits", "slice_bits"), [(8, 2), (8, 1), (8, 8), (6, 3)])
def test_every_code_reads_back(bits, slice_bits):
    slices = Codes(bits, slice_bits)
    mapping = bit_sliced(slices)
    v = slices.positions(torch.arange(2**bits)).double()
    cells = mapping.encode(v, 9.0, 88.2)
    assert len(cells) == mapping.cells_per_weight == slices.n_slices
    assert all(cell.min().item() == 9.0 and cell.max().item() == pytest.approx(88.2) for cell in cells)
    torch.testing.assert_close(mapping.decode(cells, 9.0, 88.2), v, atol=1e-12, rtol=0)


@pytest.mark.parametrize("mapping", [*MAPPINGS.values(), bit_sliced(Codes(8, 2)), bit_sliced(Codes(6, 3))])
def test_gains_are_those_of_decoding(mapping):
    held = len(mapping.gains)
    cells = [torch.full((1,), 20.0).double() for _ in range(held)]
    at_rest = mapping.decode(tuple(cells), 10.0, 30.0)
    for k, gain in enumerate(mapping.gains):
        moved = [cell + 20.0 * (i == k) for i, cell in enumerate(cells)]
        assert (mapping.decode(tuple(moved), 10.0, 30.0) - at_rest).item() == pytest.approx(gain)
    assert held == mapping.cells_per_weight + mapping.reference


def test_gains_of_four_slices():
    """64, 16, 4 and 1 codes of 128 a state, times the three states of a window."""
    assert bit_sliced(Codes(8, 2)).gains == (1.5, 0.375, 0.09375, 0.0234375)


def test_fixed_scale_is_that_of_its_fraction():
    for bits, fraction_bits, s in ((8, 6, 2.0), (8, 7, 1.0), (6, 8, 0.125)):
        device = _device(scale="fixed", bits=bits, fraction_bits=fraction_bits)
        assert _model(device)[0].weight_scale().item() == device.encoding.scaling.fixed == s
    assert _device().encoding.scaling.fixed is None
    assert not isinstance(load_hardware("reram_cmo").encoding.format, Codes)


def test_fixed_point_numbers_are_clipped_and_rounded():
    layer = _one_layer(_device(**FIXED), torch.tensor([-5.0, -2.0, -0.3, 0.3, 1.984375, 1.99, 2.0, 5.0]), 1)[0]
    expected = [-2.0, -2.0, -19 / 64, 19 / 64, 127 / 64, 127 / 64, 127 / 64, 127 / 64]
    assert layer.effective_weight().flatten().tolist() == expected


@pytest.mark.parametrize("settings", SCALES)
def test_drift_free_training_and_an_exact_chip_have_the_same_codes(settings):
    device = _device(**EXACT, **settings)
    model = _model(device).eval()
    chip = Chip.program(model, seed=1)
    for name in ("0", "2"):
        layer = model[int(name)]
        exact, s = layer.effective_weight(), layer.weight_scale()
        codes = exact / s * 128
        torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
        for mode in (False, True):
            assert torch.equal(layer.train(mode).realised_weight(), exact)
        torch.testing.assert_close(chip.weight_at(name, 0.0), exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("settings", SCALES)
def test_effective_weights_convert_back_to_themselves(settings, sign):
    device = _device(**settings)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 5))
    for layer in model:
        layer.weight.data[0, 0] = 1.5 * sign  # the largest is what has no code where it is positive
    convert(model, device)
    if sign == 1:
        assert model[0].effective_weight()[0, 0].item() == pytest.approx(1.5)  # kept, not clipped
    with torch.no_grad():
        model[1].weight.mul_(1.3)  # trained since
    state = effective_state_dict(model)
    digital = to_digital(copy.deepcopy(model))
    torch.testing.assert_close(digital.state_dict(), state)
    convert(digital, device)
    torch.testing.assert_close(effective_state_dict(digital), state, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("age_s", [0.0, YEAR_S])
@pytest.mark.parametrize(
    "device", [_device(), _device(**FIXED, slice_bits=1, clamp="zero"), load_hardware("diware2023")]
)
def test_moments_are_those_of_chips(device, age_s):
    u, n = torch.tensor([-1.0, -0.3, -1 / 128, 0.0, 0.05, 1.0]), 20_000
    model = _one_layer(device, u * (device.encoding.scaling.fixed or 1), n)
    s = model[0].weight_scale()
    error = ((Chip.program(model, seed=3).weight_at("0", age_s) - model[0].effective_weight()) / s).double()
    mean, std = device.encoding.moments(device.device, (model[0].weight[:, 0] / s).detach().double(), age_s)
    assert ((error.mean(1) - mean).abs() < 4.5 * std / n**0.5 + 1e-5).all()
    torch.testing.assert_close(error.std(1), std, rtol=0.03, atol=1e-5)


def test_moments_by_hand():
    """Of w = 0, whose digits are 2 0 0 0, on the preset: the cells' errors by the gains of their slices."""
    mean, std = _moments(load_hardware("diware2023"), torch.zeros(1), 0.0)
    cells = torch.tensor([0.12 * 70 / 3, 0.4, 0.4, 0.4]).double() / 20 * torch.tensor([1.5, 0.375, 0.09375, 0.0234375])
    assert std.item() == pytest.approx(cells.square().sum().sqrt().item(), rel=1e-6) and abs(mean.item()) < 1e-9


def test_training_noise_has_the_moments_of_chips():
    device = load_hardware("diware2023")
    model = _model(device).train()
    layer = model[2]
    install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (0.0,))))
    with torch.no_grad():
        draws = torch.stack([layer.realised_weight() for _ in range(400)])
        chips = torch.stack([Chip.program(model, seed).weight_at("2", 0.0) for seed in range(400)])
    spread = chips.std(0)
    assert ((draws.mean(0) - chips.mean(0)).abs() < 6 * spread * (2 / 400) ** 0.5).all()
    assert (draws.std(0) / spread).mean().item() == pytest.approx(1, abs=0.01)
    assert (draws.std(0) / spread - 1).abs().max() < 0.25


def test_stuck_cells_of_training_are_those_of_chips():
    device = load_hardware("diware2023", severity=0.0, stuck_on=0.05, stuck_off=0.1)
    model = _one_layer(device, torch.tensor([-1.3, 0.0, 0.7]), 40_000).train()
    install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (0.0,))))
    trained, chip = model[0].realised_weight(), Chip.program(model, 1).weight_at("0", 0.0)
    assert (trained.mean(1) - chip.mean(1)).abs().max() < 0.02 and (trained.std(1) - chip.std(1)).abs().max() < 0.02
    hit = ((trained - model[0].effective_weight()).abs() > 1e-3).float().mean(1)
    # Stuck where it would be anyway does no harm: -1.3 is the code 45, with the digits 0 2 3 1.
    assert hit[0].item() == pytest.approx(1 - 0.95 * 0.85 * 0.9 * 0.85, abs=0.01)
    trained.sum().backward()
    assert (model[0].weight.grad == 1).all()


def test_stuck_digits_do_not_vary():
    """However much working cells do."""
    device = load_hardware("diware2023", stuck_on=1.0)
    model = _one_layer(device, torch.tensor([-1.3, 0.0, 0.7]), 100).train()
    install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (0.0,))))
    torch.testing.assert_close(model[0].realised_weight(), torch.full((3, 100), 127 / 64), rtol=0, atol=1e-6)


def test_rewriting_aims_at_the_codes():
    device = _device(**EXACT, **FIXED)
    model = _model(device).eval()
    chip, method = Chip.program(model, seed=1), ReadVerifyWrite(share=1.0, tolerance=1e-6)
    with drift_free(model):
        exact = model[2].realised_weight()
    with chip.at(YEAR_S), method.installed(model, method.fit(chip, YEAR_S, None)):
        torch.testing.assert_close(model[2].realised_weight(), exact, rtol=0, atol=1e-4)


def test_repairs_start_from_the_mean_error_of_clipped_weights():
    device = _device(**FIXED)
    model = _model(device, factor=5.0)
    state = VeraPlus()._against_mean_error(model, YEAR_S)
    assert all(value.isfinite().all() for value in state.values()) and state["2/b"].any()


def test_drift_shifts_all_slices():
    """The mean fall of the cells, by the sum of the gains, where nothing is clamped."""
    device = _device(clamp="zero")
    mean, _ = _moments(device, torch.tensor([0.3]), YEAR_S)
    cell = device.device
    fall = cell.drift_mean_us(torch.tensor(50.0), YEAR_S) / (cell.g_max_us - cell.g_min_us)
    assert mean.item() == pytest.approx(fall * 255 / 128, rel=1e-4)


def test_retention_loss_is_that_of_the_codes():
    device = load_hardware("diware2023")
    model = _model(device).train()
    install_retention(model, RetentionLoss((YEAR_S,)))
    loss, expected = retention_loss(model), []
    for layer in (model[0], model[2]):
        mean, std = _moments(device, (layer.weight / 2).detach(), YEAR_S)
        expected.append((4 * (mean**2 + std**2)).sum() / layer.effective_weight().double().square().sum())
    assert loss.item() == pytest.approx((sum(expected) / 2).item(), rel=1e-4)
    loss.backward()
    assert all(layer.weight.grad.isfinite().all() and layer.weight.grad.any() for layer in (model[0], model[2]))


def test_slope_of_the_expected_error_is_that_between_neighbouring_codes():
    device = load_hardware("diware2023")
    table = error_table(device, (YEAR_S,))
    errors = table.value[::8]  # of all codes, and +1, which is the last's
    assert torch.equal(errors[-1], errors[-2])
    torch.testing.assert_close(table.slope[8:-8:8], (errors[2:] - errors[:-2]) * 64)
    assert table.slope[1024] > 0.4  # from 1 3 3 3 to 2 0 0 0 the most significant cell gets the worst state


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kappa": 2.0}, r"kappa=2.0 .*set kappa linear \(null in a device file\)"),
        ({"range_fraction": 0.5}, "range_fraction=0.5 must be 1.0"),
        ({"levels": 15}, "format .*levels.: 15.* is not for the mapping 'bit_sliced', .*give {bits: 8, slice_bits: 2}"),
        ({"scale": "fixed"}, "scale 'fixed' needs fraction_bits"),
        ({"fraction_bits": 6}, "fraction_bits=6 is for the scale 'fixed', not 'tensor'"),
        ({"scale": "fixed", "fraction_bits": 25}, "fraction_bits=25 must be a whole number from 0 to 24"),
        ({"scale": "fixed", "fraction_bits": 6.5}, "fraction_bits=6.5 must be a whole number"),
        ({"slice_bits": 3}, r"slice_bits=3 do not divide bits=8"),
        ({"mapping": "offset", "bits": 8}, "bits.: 8.* is for the mapping 'bit_sliced', not 'offset'"),
        ({"mapping": "offset", "scale": "fixed"}, "scale 'fixed' is for the mapping 'bit_sliced', not 'offset'"),
        ({"mapping": "bit_slice"}, "Did you mean 'bit_sliced'"),
    ],
)
def test_what_digits_do_not_have_is_refused(settings, reason):
    with pytest.raises(UserError, match=reason):
        _device(**settings)


def test_the_usual_bits_are_filled_in_and_recorded():
    device = _device(**FIXED)
    assert device.encoding.format == Codes(8, 2, fraction_bits=6) and _device().encoding.format == Codes(8, 2)
    assert hardware_from_plain(device.plain()) == device == _device(bits=8.0, slice_bits=2, **FIXED)
    assert device.params()["slice_bits"] == 2 and "bits" not in load_hardware("reram_cmo").params()


def test_a_chip_has_the_codes_of_the_layers_hardware():
    model = _model(_device(**FIXED))
    exact = model[2].effective_weight()
    for other in (_device(**EXACT, **FIXED), _device(slice_bits=4, **EXACT, **FIXED)):  # cut as the chip has them
        torch.testing.assert_close(Chip.program(on(model, other), 1).weight_at("2", 0.0), exact, atol=1e-5, rtol=0)
    coarser = Chip.program(on(model, _device(**EXACT, scale="fixed", fraction_bits=5)), 1).weight_at("2", 0.0)
    torch.testing.assert_close(coarser * 32, (coarser * 32).round(), atol=1e-3, rtol=0)
    assert coarser.max() > 2.9  # twice the range, in half as fine codes


def test_the_report_counts_cells_and_names_slices():
    report = convert(nn.Sequential(nn.Linear(10, 3)), _device(bits=6, slice_bits=3))
    assert report.n_cells == 60 and "reram_cmo (bit_sliced, 6 bits in 3-bit slices)" in str(report)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_seen_in_spite_of_clipping(value):
    model = _model(_device(**FIXED))
    model[2].weight.data[1, 1] = value
    with pytest.raises(UserError, match="not finite"):
        Chip.program(model, seed=1)
