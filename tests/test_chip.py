import copy

import pytest
import torch
from torch import nn

from hwaware.chip import Chip, drift_free, mean_aged
from hwaware.compensation.methods.rvw import ReadVerifyWrite
from hwaware.errors import UserError
from hwaware.export.bundle import read_bundle, write_bundle
from hwaware.hardware import Placement, Rule, load_hardware
from hwaware.nn import convert
from hwaware.training import AgeDistribution, TrainingNoise, install_noise
from tests.placing import on

YEAR_S = 31536000.0
DEVICE = load_hardware("reram_cmo")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    convert(model, DEVICE)
    return model


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8)


def _weights(chip, age_s, purpose="evaluation"):
    return torch.cat([chip.weight_at(name, age_s, purpose).flatten() for name in chip.targets])


def test_a_chip_acts_and_leaves_no_trace(model, images):
    before, keys = model(images), list(model.state_dict())
    chip = Chip.program(model, seed=1)
    with chip.at(YEAR_S) as aged:
        inside = aged(images)
        assert list(model.state_dict()) == keys
    assert not torch.allclose(inside, before, atol=1e-3)
    assert torch.equal(model(images), before)


def test_restored_after_an_exception_and_when_nested(model, images):
    before = model(images)
    chip, other = (Chip.program(model, seed) for seed in (1, 2))
    with pytest.raises(RuntimeError, match="boom"), chip.at(YEAR_S):
        raise RuntimeError("boom")
    assert torch.equal(model(images), before)
    with chip.at(YEAR_S):
        outer = model(images)
        with other.at(YEAR_S):
            assert not torch.equal(model(images), outer)
        assert torch.equal(model(images), outer)


def test_the_same_chip_from_its_seed_alone(model):
    chip = Chip.program(model, seed=5)
    first = _weights(chip, YEAR_S)
    torch.manual_seed(99)  # the global generator has no part in it
    _weights(chip, 3600.0)
    again = Chip.program(copy.deepcopy(model), seed=5)
    assert torch.equal(_weights(again, YEAR_S), first)
    assert not torch.equal(_weights(Chip.program(model, seed=6), YEAR_S), first)


def test_read_noise_is_fresh_per_purpose_but_the_path_is_one(model):
    chip = Chip.program(model, seed=5)
    evaluation, calibration = _weights(chip, YEAR_S), _weights(chip, YEAR_S, purpose="calibration")
    difference = (evaluation - calibration).std() / evaluation.std()
    assert 0 < difference
    later = _weights(chip, 10 * YEAR_S)
    fresh = _weights(Chip.program(model, seed=6), YEAR_S)
    # One cell keeps one path: a year's and ten years' weights differ far less than two chips' do.
    assert (later - evaluation).std() < 0.5 * (fresh - evaluation).std()
    quiet = load_hardware("reram_cmo", read_coefficient_us=0.0)
    silent = Chip.program(on(model, quiet), seed=5)
    assert torch.equal(_weights(silent, YEAR_S), _weights(silent, YEAR_S, purpose="calibration"))


def test_age_0_has_programming_error_only(model):
    exact = load_hardware("reram_cmo", programming_std_offset_us=0.0, programming_std_slope=0.0)
    chip = Chip.program(on(model, exact), seed=5)
    weights = torch.cat([layer.effective_weight().flatten() for layer in (model[0], model[3])])
    torch.testing.assert_close(_weights(chip, 0.0), weights, rtol=1e-4, atol=1e-6)
    normal = Chip.program(model, seed=5)
    spread, aged = ((_weights(normal, age_s) - weights).std() for age_s in (0.0, YEAR_S))
    assert 0 < spread < 0.5 * aged  # 0.01 µS + 1 % of the conductance, against 1.1 µS


def test_an_age_that_the_law_does_not_cover_is_refused_by_every_reading(model):
    chip = Chip.program(model, seed=5)
    for read in (chip.weight_at, chip.conductances_at):
        for age_s, reason in ((-5.0, "is not an age"), (0.001, "at least 1 s")):
            with pytest.raises(UserError, match=reason):
                read("0", age_s)


def test_an_age_is_a_number_however_it_is_written(model):
    chip = Chip.program(model, seed=5)
    assert torch.equal(_weights(chip, 3600), _weights(chip, 3600.0))


def test_training_after_programming_does_not_reach_the_chip(model):
    chip = Chip.program(model, seed=5)
    before = _weights(chip, YEAR_S)
    with torch.no_grad():
        model[0].weight.mul_(2)
    assert torch.equal(_weights(chip, YEAR_S), before)


def test_tied_layers_share_their_cells():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    convert(model, DEVICE)
    chip = Chip.program(model, seed=1)
    assert torch.equal(chip.weight_at("0", YEAR_S), chip.weight_at("1", YEAR_S))


def test_a_chip_is_of_the_layers_hardware(model):
    noiseless = {f"programming_std_{what}": 0.0 for what in ("offset_us", "slope")}
    chip = Chip.program(on(model, load_hardware("reram_cmo", mapping="offset", **noiseless)), seed=1)
    torch.testing.assert_close(chip.weight_at("0", 0.0), model[0].effective_weight(), rtol=1e-4, atol=1e-5)
    other = on(model, load_hardware("reram_cmo", scale="channel", kappa=1.0, **noiseless))
    written = Chip.program(other, seed=1).weight_at("0", 0.0)
    torch.testing.assert_close(written, other[0].effective_weight(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(written, model[0].effective_weight(), atol=1e-2)
    with pytest.raises(UserError, match="no analog layer"):
        Chip.program(nn.Linear(2, 2), seed=1)
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match="layer '3' has values that are not finite"):
        Chip.program(model, seed=1)
    with pytest.raises(UserError, match="not an age"), Chip.program(_converted(), seed=1).at(-1.0):
        pass


def _converted():
    model = nn.Sequential(nn.Linear(3, 3))
    convert(model, DEVICE)
    return model


def test_mean_shift_has_the_physics_sign():
    """CMO loses conductance: in `offset` every weight falls; in `differential` magnitudes shrink, signs cancel."""
    for mapping, check in (("offset", "falls"), ("differential", "shrinks")):
        device = load_hardware("reram_cmo", mapping=mapping, kappa=None)
        model = nn.Sequential(nn.Linear(300, 300, bias=False))
        convert(model, device)
        target = model[0].weight.detach()
        change = Chip.program(model, seed=3).weight_at("0", 10 * YEAR_S) - target
        scale = target.abs().max()
        if check == "falls":
            assert change.mean() / scale == pytest.approx(-1.742 * 2 / 79.2, rel=0.05)
        else:
            assert change.mean().abs() / scale < 1e-3
            big = target.abs() > 0.3 * scale
            assert (change * target.sign())[big].mean() / scale == pytest.approx(-1.788 / 79.2, rel=0.05)


def test_stuck_cells_stay_stuck_and_are_as_many_as_said():
    device = load_hardware(
        "reram_relative", relative_drift=0.0, stuck_on=0.02, stuck_off=0.09, mapping="offset", kappa=None
    )
    model = nn.Sequential(nn.Linear(400, 400, bias=False))
    model[0].weight.data.uniform_(-0.5, 0.5)
    convert(model, device)
    chip = Chip.program(model, seed=3)
    (young,), (old,) = chip.conductances_at("0", 0.0), chip.conductances_at("0", YEAR_S)
    assert (young == device.device.g_max_us).float().mean().item() == pytest.approx(0.02, abs=0.002)
    assert (young == device.device.g_min_us).float().mean().item() == pytest.approx(0.09, abs=0.004)
    assert torch.equal(young, old)


def test_drift_free_is_the_exact_network(model, images):
    expected = model(images)
    with drift_free(model):
        assert torch.equal(model.train()[0].realised_weight(), model[0].effective_weight())
        torch.testing.assert_close(model.eval()(images), expected)
    assert model[0]._installed is None


def _errors(layer, mapping, age_s=315_360_000.0):
    """Errors of a layer's normalised weights on a chip, outputs by inputs."""
    layer.weight.data.uniform_(-0.5, 0.5)
    layer.weight.data.flatten()[0] = 1.0
    device = load_hardware("reram_cmo", mapping=mapping, kappa=None)
    model = nn.Sequential(layer)
    convert(model, device)
    error = Chip.program(model, seed=9).weight_at("0", age_s) - layer.weight.data
    return error.flatten(1)


def test_a_reference_column_cancels_what_all_cells_have_in_common():
    alone, against = (_errors(nn.Linear(300, 200), mapping) for mapping in ("offset", "offset_reference"))
    assert alone.mean().item() == pytest.approx(-1.742 * 2 / 79.2, rel=0.02)
    assert abs(against.mean().item()) < 0.1 * abs(alone.mean().item())
    assert against.std().item() == pytest.approx(2**0.5 * alone.std().item(), rel=0.05)


def test_columns_of_a_crossbar_share_its_reference():
    error = _errors(nn.Linear(400, 600), "offset_reference")
    first, second = error[:512].mean(0), error[512:].mean(0)  # what the outputs of a crossbar have in common
    spread = _errors(nn.Linear(400, 600), "offset").std().item()
    assert first.std().item() == pytest.approx(spread, rel=0.15) and second.std().item() == pytest.approx(
        spread, rel=0.2
    )
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1].item()) < 0.2
    grouped = _errors(nn.Conv2d(400, 400, 1, groups=400), "offset_reference")
    assert grouped.std().item() == pytest.approx(2**0.5 * spread, rel=0.15)  # a reference of their own each


def test_a_reference_has_a_path_of_its_own_and_only_where_there_is_one():
    model = nn.Sequential(nn.Linear(50, 10))
    device = load_hardware("reram_cmo", mapping="offset_reference")
    convert(model, device)
    chip = Chip.program(model, seed=9)
    day, year = (chip.reference_at("0", age_s) for age_s in (86400.0, 31536000.0))
    assert day.shape == (10, 50) and (day == day[:1]).all()
    assert torch.corrcoef(torch.stack([day[0], year[0]]))[0, 1] > 0.8
    convert(plain := nn.Sequential(nn.Linear(50, 10)), load_hardware("reram_cmo", mapping="offset"))
    assert Chip.program(on(plain, load_hardware("reram_cmo", mapping="offset")), seed=9).reference_at("0", 1.0) is None


def test_layers_of_one_chip_draw_and_decode_by_their_own_hardware():
    """A drifting pair beside one cell that is written exactly and never drifts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20))
    digital = copy.deepcopy(model)
    frozen = load_hardware("reram_relative", mapping="offset", kappa=None, relative_drift=0.0, scale="channel")
    convert(model, Placement(DEVICE, (Rule(("1",), frozen),)))
    chip = Chip.program(model, seed=3)
    assert chip.devices == (DEVICE.device, frozen.device)
    assert [len(chip.conductances_at(name, YEAR_S)) for name in ("0", "1")] == [2, 1]
    torch.testing.assert_close(chip.weight_at("1", YEAR_S), digital[1].weight.detach(), rtol=1e-4, atol=1e-6)
    # The other layer's cells are those that it has in a chip that is of its hardware alone.
    convert(digital, DEVICE)
    alone = Chip.program(digital, seed=3)
    assert torch.equal(chip.weight_at("0", YEAR_S), alone.weight_at("0", YEAR_S))
    assert not torch.allclose(chip.weight_at("0", YEAR_S), model[0].effective_weight(), atol=1e-3)
    with pytest.raises(UserError, match=r"age_s=0\.5 is below what the law of device 'reram_cmo' covers"), chip.at(0.5):
        pass


def test_narrower_crossbars_have_more_reference_columns():
    convert(model := nn.Sequential(nn.Linear(50, 300)), load_hardware("reram_cmo", mapping="offset_reference"))
    for columns, n in ((512, 1), (301, 1), (128, 3)):
        narrow = load_hardware("reram_cmo", mapping="offset_reference", columns=columns)
        reference = Chip.program(on(model, narrow), seed=9).reference_at("0", YEAR_S)
        assert reference.shape == (300, 50) and len(reference.unique(dim=0)) == n
        for part in reference.split(columns - 1):
            assert (part == part[:1]).all()


@pytest.mark.parametrize("mapping", ["offset", "offset_reference", "differential"])
@pytest.mark.parametrize("options", [{}, {"kappa": None}, {"levels": 15}, {"stuck_on": 0.3}], ids=str)
@pytest.mark.parametrize("scale", ["channel", "tensor"])
def test_a_channel_of_zeros_is_read_as_zeros_as_in_training(mapping, options, scale):
    """Its scale is 0: whatever its cells hold, it adds nothing."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 4, bias=False)
    zeros = slice(None) if scale == "tensor" else slice(1, 2)
    layer.weight.data[zeros] = 0
    model = nn.Sequential(layer)
    hardware = load_hardware("reram_cmo", mapping=mapping, scale=scale, **options)
    convert(model, hardware)
    assert torch.equal(layer.weight[zeros], layer.weight.new_zeros(layer.weight[zeros].shape))
    aged = Chip.program(model, seed=3).weight_at("0", 10 * YEAR_S)
    install_noise(model.train(), TrainingNoise(ages=AgeDistribution("fixed", (10 * YEAR_S,))))
    for weight in (aged, layer.realised_weight(), layer.effective_weight()):
        assert weight.isfinite().all() and not weight[zeros].any()
        assert scale == "tensor" or weight[[0, 2, 3]].abs().sum(1).min() > 0


def test_repairs_and_bundles_of_a_channel_of_zeros(tmp_path):
    model = nn.Sequential(nn.Linear(32, 4))
    model[0].weight.data[1] = 0
    convert(model, load_hardware("reram_cmo", scale="channel"))
    chip = Chip.program(model, seed=1)
    state = ReadVerifyWrite(share=1.0).fit(chip, YEAR_S, None)
    assert state["0/values"].isfinite().all() and not state["0/values"].view(4, 32)[1].any()
    bundle = read_bundle(write_bundle(tmp_path / "bundle", model, "net"))
    assert bundle.scales["0"].flatten()[1] == 0


@pytest.mark.parametrize("parallel", [1, 3])
def test_targets_are_what_cells_without_errors_have(parallel):
    layer = nn.Linear(5, 4)
    hardware = load_hardware("reram_cmo", mapping="differential", parallel=parallel)
    convert(model := nn.Sequential(layer), hardware)
    chip = Chip.program(model, 2_000_000)
    targets, written = chip.targets_us("0"), chip.conductances_at("0", 0.0)
    assert len(targets) == len(written) == 2 * parallel and targets[0].shape == (4, 5)
    errors = torch.stack(written) - torch.stack(targets)
    assert 0 < errors.abs().max() < 5  # µS: the programming error
    assert len({tuple(g.flatten().tolist()) for g in targets}) == 2  # cells in parallel share their target


@pytest.mark.parametrize("settings", [{"mapping": "offset"}, {"mapping": "differential", "parallel": 2}])
def test_mean_aged_weights_are_the_mean_of_many_chips(settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4)).eval().requires_grad_(False)
    convert(model, load_hardware("reram_cmo", **settings))
    chips = torch.stack([Chip.program(model, seed).weight_at("0", 10 * YEAR_S) for seed in range(1000)])
    with mean_aged(model, 10 * YEAR_S):
        error = (chips.mean(0) - model[0].realised_weight()).abs()
        assert (error < 4.5 * chips.std(0) / 1000**0.5).all()
    with pytest.raises(UserError, match="age"), mean_aged(model, -1.0):
        pass
    assert model[0]._installed is None
