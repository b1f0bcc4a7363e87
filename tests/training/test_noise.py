import math

import numpy as np
import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.hardware.encoding import MAPPINGS
from hwaware.nn import convert
from hwaware.nn.weights.tables import positions
from hwaware.training import AgeDistribution, TrainingNoise, clip_weights_, install_noise, remove_noise
from hwaware.training.noise import TABLE_SIZE, _noise_table_between, noise_table

YEAR_S = 31536000.0


def _model(device, u, n=100_000):
    """One layer whose rows hold the normalised latents ``u``, scale 0.25."""
    model = nn.Sequential(nn.Linear(n, len(u), bias=False))
    model[0].weight.data = 0.25 * torch.tensor(u)[:, None].expand(-1, n).clone()
    convert(model, device, corrected=False)
    return model.train()


@pytest.mark.parametrize(("name", "kappa"), [("reram_cmo", 1.0), ("reram_relative", None)])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_training_noise_has_the_statistics_of_chips(name, kappa, mapping):
    """What training draws, against what chips do, at one age, over the whole range of weights."""
    device = load_hardware(name, mapping=mapping, kappa=kappa)
    model = _model(device, [-1.0, -0.5, -0.03, 0.0, 0.2, 0.9])
    install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (YEAR_S,))))
    exact = model[0].effective_weight()
    trained = (model[0].realised_weight().detach() - exact) / 0.25
    aged = (Chip.program(model, seed=1).weight_at("0", YEAR_S) - exact) / 0.25
    spread = aged.std(1).max().item()
    np.testing.assert_allclose(trained.mean(1), aged.mean(1), atol=0.04 * spread)  # first order in the error
    np.testing.assert_allclose(trained.std(1), aged.std(1), rtol=0.07, atol=0.02 * spread)


def test_plain_gaussian_is_a_fraction_of_the_largest_weight():
    model = _model(load_hardware("reram_cmo"), [-1.0, 0.0, 0.5])
    assert install_noise(model, TrainingNoise("gaussian", std=0.04)) is None
    noise = model[0].realised_weight().detach() - model[0].effective_weight()
    np.testing.assert_allclose(noise.std(1), [0.01] * 3, rtol=0.02)
    np.testing.assert_allclose(noise.mean(1), [0.0] * 3, atol=3e-4)
    remove_noise(model)
    torch.testing.assert_close(model[0].realised_weight(), model[0].effective_weight(), rtol=1e-5, atol=1e-7)


def test_only_the_devices_own_noise_has_its_stuck_cells():
    model = _model(load_hardware("reram_cmo", stuck_on=0.2), [0.0, 0.5], n=1000)
    for noise, moved in ((TrainingNoise("gaussian", std=0.0), False), (TrainingNoise(), True)):
        install_noise(model, noise)
        off = (model[0].realised_weight() - model[0].effective_weight()).abs() / 0.25
        assert (off.max() > 0.2) == moved


def test_clipping_takes_tied_weights_once():
    model = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 50))
    model[1].weight = model[0].weight
    torch.nn.init.normal_(model[0].weight)
    convert(model, load_hardware("reram_cmo"))
    limit = 1.5 * model[0].weight.std(correction=0).item()
    clip_weights_(model, 1.5)
    assert model[0].weight.abs().max().item() == pytest.approx(limit)


def test_clipping_leaves_frozen_layers_alone():
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
    convert(model, load_hardware("reram_cmo"))
    model[0].requires_grad_(False)
    frozen, trained = (layer.weight.clone() for layer in model)
    clip_weights_(model, 1.0)
    assert torch.equal(model[0].weight, frozen) and not torch.equal(model[1].weight, trained)


def test_clipping_leaves_equal_weights_alone():
    model = nn.Sequential(nn.Linear(1, 1))
    convert(model, load_hardware("reram_cmo"))
    before = model[0].weight.item()
    clip_weights_(model, 2.0)
    assert model[0].weight.item() == before


def test_none_is_none():
    model = _model(load_hardware("reram_cmo"), [-1.0, 0.5], n=8)
    install_noise(model, TrainingNoise("none"))
    torch.testing.assert_close(model[0].realised_weight(), model[0].effective_weight(), rtol=1e-5, atol=1e-7)


def test_table_is_the_closed_form():
    device = load_hardware("reram_cmo")
    table = noise_table(device, 3600.0)
    mean, std = device.encoding.moments(device.device, positions(TABLE_SIZE), 3600.0)
    torch.testing.assert_close(table.mean, mean.float())
    torch.testing.assert_close(table.std, std.float())
    assert len(table) == TABLE_SIZE and positions(TABLE_SIZE)[len(table) // 2] == 0


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_tables_between_tabulated_ages_are_close(mapping):
    device = load_hardware("reram_cmo", mapping=mapping)
    ages = AgeDistribution("log_uniform", (2.0, 10 * YEAR_S))
    for age_s in (2.0, 2.7, 3601.0, 5e6, 10 * YEAR_S):
        exact, got = noise_table(device, age_s), _noise_table_between(device, age_s, ages)
        assert (got.packed - exact.packed).abs().max() < 3e-3 * exact.std.max()


def test_same_seed_same_noise_and_ages():
    model = _model(load_hardware("reram_cmo"), [-1.0, 0.5], n=64)

    def draw(seed):
        torch.manual_seed(seed)
        return install_noise(model, TrainingNoise()), model[0].realised_weight().detach()

    (age, weight), (again_age, again), (other_age, other) = draw(1), draw(1), draw(2)
    assert age == again_age != other_age
    assert torch.equal(weight, again) and not torch.equal(weight, other)


def test_stuck_cells_in_training():
    device = load_hardware(
        "reram_relative", relative_drift=0.0, stuck_on=0.05, stuck_off=0.1, mapping="offset", kappa=None
    )
    model = _model(device, [-1.0, 0.5], n=20_000)
    install_noise(model, TrainingNoise())
    weight = model[0].realised_weight()
    row = weight[1].detach() / 0.25
    assert ((row - 1).abs() < 1e-5).float().mean().item() == pytest.approx(0.05, abs=0.01)
    assert ((row + 1).abs() < 1e-5).float().mean().item() == pytest.approx(0.1, abs=0.01)
    weight[1].sum().backward()
    stuck = (row - 0.5).abs() > 1e-4
    assert (model[0].weight.grad[1][stuck] == 0).all() and (model[0].weight.grad[1][~stuck] != 0).all()


def test_log_uniform_ages_are():
    ages = AgeDistribution("log_uniform", (1.0, 1e8))
    logs = torch.tensor([math.log10(ages.draw()) for _ in range(4000)])
    assert logs.min() >= 0 and logs.max() <= 8
    histogram = torch.histc(logs, bins=8, min=0, max=8)
    assert (histogram - 500).abs().max() < 5 * math.sqrt(500)


def test_listed_and_fixed_ages():
    assert AgeDistribution("fixed", (60,)).draw() == 60.0
    assert {AgeDistribution("list", (1, 2, 3)).draw() for _ in range(100)} == {1.0, 2.0, 3.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AgeDistribution("loguniform"), "Did you mean 'log_uniform'"),
        (lambda: AgeDistribution("fixed", (1, 2)), "takes 1 ages_s, not 2"),
        (lambda: AgeDistribution("list", ()), "takes one or more"),
        (lambda: AgeDistribution("list", (-1.0,)), "0 or more seconds"),
        (lambda: AgeDistribution("log_uniform", (5.0, 1.0)), r"0 < ages_s\[0\] < ages_s\[1\]"),
        (lambda: TrainingNoise("devise"), "Did you mean 'device'"),
        (lambda: TrainingNoise("gaussian", std=-0.1), "std=-0.1 must be 0 or more"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_an_age_that_the_device_does_not_cover_is_refused():
    model = _model(load_hardware("reram_cmo"), [1.0], n=4)
    with pytest.raises(UserError, match="at least 1 s"):
        install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (0.5,))))


def test_clipping():
    model = nn.Sequential(nn.Linear(100, 100))
    model[0].weight.data[0, 0] = 50.0
    convert(model, load_hardware("reram_cmo", kappa=None))
    limit = 2.5 * model[0].weight.std(correction=0)
    clip_weights_(model, 2.5)
    assert model[0].weight.abs().max().item() == pytest.approx(limit.item())
    with pytest.raises(UserError, match="alpha=0"):
        clip_weights_(model, 0)


@pytest.mark.parametrize("kappa", ["linear", 2.0])
def test_reference_cells_are_drawn_once_for_each_row_of_a_crossbar(kappa):
    """As on chips: what the columns of a crossbar have in common does not average out over them."""
    hardware = load_hardware("reram_cmo", mapping="offset_reference", kappa=kappa, columns=16)
    model = nn.Sequential(nn.Linear(4000, 32, bias=False))
    model[0].weight.data = torch.full((32, 4000), 0.2)
    model[0].weight.data[:, 0] = 1.0
    convert(model, hardware, corrected=False)
    layer, exact = model[0], model[0].effective_weight()
    torch.manual_seed(0)
    install_noise(model.train(), TrainingNoise(ages=AgeDistribution(kind="fixed", ages_s=(1e8,))))
    drawn = (layer.realised_weight() - exact)[:, 1:].detach()
    aged = (Chip.program(model, 3).weight_at("0", 1e8) - exact)[:, 1:]
    for crossbar in (slice(0, 16), slice(16, 32)):
        together = drawn[crossbar].mean(0).std().item()  # of 16 columns: a quarter of their own spread would be left
        assert together == pytest.approx(aged[crossbar].mean(0).std().item(), rel=0.05)
        assert together > 0.5 * drawn[crossbar].std().item()
    assert torch.corrcoef(torch.stack([drawn[:16].mean(0), drawn[16:].mean(0)]))[0, 1].abs() < 0.1
    assert drawn.std().item() == pytest.approx(aged.std().item(), rel=0.05)
    assert drawn.mean().item() == pytest.approx(aged.mean().item(), abs=0.002)


def test_repaired_weights_are_exact_and_the_worst():
    model = _model(load_hardware("charan2020", mapping="differential"), [-1.0, 0.5], n=4000)
    exact = model[0].hardware.encoding.unrounded(model[0].weight)

    def errors(repaired):
        torch.manual_seed(3)
        install_noise(model, TrainingNoise(ages=AgeDistribution("fixed", (0,)), repaired=repaired))
        return (model[0].realised_weight() - exact).detach().abs().flatten()

    before, after = errors(0.0), errors(0.05)
    worst = before.topk(round(0.05 * len(before))).indices
    assert after[worst].max() < 1e-6 and after.max() <= before.sort().values[-len(worst)]
    rest = torch.ones_like(before, dtype=torch.bool).index_fill(0, worst, False)
    assert torch.equal(after[rest], before[rest])


def test_repaired_weights_get_gradients_though_stuck():
    stuck = {"stuck_on": 0.5, "stuck_off": 0.5, "mapping": "offset", "kappa": None}
    model = _model(load_hardware("reram_relative", relative_drift=0.0, **stuck), [-0.9, 0.5], n=4000)
    install_noise(model, TrainingNoise(repaired=0.25))
    model[0].realised_weight().sum().backward()
    assert (model[0].weight.grad > 0.5).float().mean().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "said"), [({"repaired": 1.0}, r"\[0, 1\)"), ({"kind": "none", "repaired": 0.1}, "no cells")]
)
def test_repaired_share_is_checked(settings, said):
    with pytest.raises(UserError, match=said):
        TrainingNoise(**settings)
