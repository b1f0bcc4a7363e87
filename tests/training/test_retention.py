import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hwaware.errors import UserError
from hwaware.hardware import device_names, load_hardware
from hwaware.hardware.encoding import MAPPINGS
from hwaware.nn import convert
from hwaware.training import RetentionLoss, TrainingNoise, install_noise, install_retention, retention_loss
from hwaware.training.retention import error_table

YEAR_S = 31536000.0


def _model(device, layers=1):
    model = nn.Sequential(*[nn.Linear(40, 40, bias=False) for _ in range(layers)])
    convert(model, device)
    return model.train()


def _by_hand(weight, device, ages_s):
    """Definition, differentiated by autograd in float64."""
    w = weight.double()
    s = w.abs().max() if device.encoding.scale == "tensor" else w.abs().amax(1, keepdim=True)
    u = w / s
    w_eff = s * torch.sinh(device.encoding.curve * u) / torch.sinh(torch.tensor(device.encoding.curve).double())
    total = 0
    for age_s in ages_s:
        mean, std = device.encoding.moments(device.device, u, age_s, read_noise=False)
        total = total + (s * s * (mean**2 + std**2)).sum()
    return total / len(ages_s) / (w_eff**2).sum()


@pytest.mark.parametrize("scale", ["tensor", "channel"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_value_and_gradient_against_the_definition(mapping, scale):
    device = load_hardware("reram_cmo", mapping=mapping, scale=scale)
    model = _model(device)
    settings = RetentionLoss((3600.0, YEAR_S))
    install_retention(model, settings)
    loss = retention_loss(model)
    loss.backward()
    reference = model[0].weight.detach().clone().requires_grad_()
    expected = _by_hand(reference, device, settings.ages_s)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    got, wanted = model[0].weight.grad, reference.grad
    assert torch.nn.functional.cosine_similarity(got.flatten(), wanted.flatten(), dim=0) > 0.995
    assert got.norm().item() == pytest.approx(wanted.norm().item(), rel=0.03)


@pytest.mark.parametrize("name", sorted({*device_names()} - {"diware2023"}))  # which has codes of its own
@pytest.mark.parametrize("mapping", ["offset", "differential"])
def test_gradients_are_finite_where_drift_begins(name, mapping):
    """At the first measured time a law of relaxation has no drift: its spread is that of programming."""
    hardware = load_hardware(name, mapping=mapping)
    device = hardware.device
    for age_s in (0.0, device.youngest_s, *getattr(device, "times_s", ())):
        if age_s or device.has_time_law:
            model = _model(hardware)
            install_retention(model, RetentionLoss((age_s,)))
            retention_loss(model).backward()
            assert model[0].weight.grad.isfinite().all()


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("name", ["reram_cmo", "reram_relative"])
def test_a_cell_at_zero_conductance_has_a_finite_gradient(name, mapping):
    device = load_hardware(name, mapping=mapping, g_min_us=0.0)
    table = error_table(device, (YEAR_S,))
    assert table.value.isfinite().all() and table.slope.isfinite().all()


def test_nothing_of_a_step_is_kept():
    """What is kept would hold the step's graph, and such a network cannot be copied."""
    model = _model(load_hardware("reram_cmo"), layers=2)
    model[1].weight = model[0].weight
    install_retention(model, RetentionLoss())
    model(torch.randn(2, 40))
    retention_loss(model)
    copy.deepcopy(model)


def test_the_forward_s_own_value_is_used_and_equals_a_fresh_one():
    model = _model(load_hardware("reram_cmo"), layers=3)
    install_retention(model, RetentionLoss())
    fresh = retention_loss(model)
    install_noise(model, TrainingNoise())
    model(torch.randn(2, 40))
    assert all(layer.weight_error is not None for layer in model)
    in_passing = retention_loss(model)
    torch.testing.assert_close(in_passing, fresh)
    assert all(layer.weight_error is None for layer in model)  # taken: no graph outlives its step


def test_gradient_survives_reentrant_checkpointing():
    model = _model(load_hardware("reram_cmo"))
    install_retention(model, RetentionLoss())
    x = torch.randn(2, 40, requires_grad=True)
    checkpoint(model, x, use_reentrant=True).sum()
    retention_loss(model).backward()
    assert model[0].weight.grad.abs().sum() > 0


def test_gradient_pulls_in_the_outlier_that_sets_the_range():
    """Drift that does not depend on the state acts through s = max|w| alone (and near the clamp)."""
    device = load_hardware("reram_cmo", mapping="differential_symmetric", kappa=None, clamp="zero")
    model = _model(device)
    model[0].weight.data.clamp_(-0.1, 0.1)
    model[0].weight.data[3, 4] = 0.5
    install_retention(model, RetentionLoss())
    retention_loss(model).backward()
    gradient = model[0].weight.grad
    assert gradient[3, 4] > 0  # descending it makes the outlier smaller
    assert gradient[3, 4] == gradient.abs().max()


def test_descending_it_lowers_the_error_of_chips():
    from hwaware.chip import Chip

    torch.manual_seed(0)
    device = load_hardware("reram_cmo")
    model = _model(device)
    model[0].weight.data.normal_()  # with the few far outliers that pretrained layers have
    install_retention(model, RetentionLoss((YEAR_S,)))

    def chip_error():
        exact = model[0].effective_weight()
        aged = Chip.program(model, seed=1).weight_at("0", YEAR_S)
        return ((aged - exact).square().sum() / exact.square().sum()).item()

    before, predicted = chip_error(), retention_loss(model).item()
    assert before == pytest.approx(predicted, rel=0.15)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        retention_loss(model).backward()
        optimizer.step()
    assert chip_error() < 0.8 * before


def test_read_noise_and_stuck_cells_are_not_in_it():
    ages = (YEAR_S,)

    def table(**settings):
        return error_table(load_hardware("reram_cmo", **settings), ages).packed

    assert torch.equal(table(), table(read_coefficient_us=10.0))
    assert torch.equal(table(), table(stuck_on=0.1))
    assert not torch.equal(table(), table(drift_std_slope_us=0.1))


def test_tied_layers_count_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    convert(model, load_hardware("reram_cmo"))
    install_retention(model, RetentionLoss())
    single = nn.Sequential(model[0])
    torch.testing.assert_close(retention_loss(model), retention_loss(single))


def test_frozen_layers_do_not_count():
    """λ is chosen by what can change."""
    device = load_hardware("reram_cmo")
    model = _model(device, layers=3)
    install_retention(model, RetentionLoss())
    model(torch.randn(2, 40))
    each = [_by_hand(layer.weight.detach(), device, RetentionLoss().ages_s) for layer in model]
    assert retention_loss(model).item() == pytest.approx(sum(each).item() / 3, rel=1e-3)
    model[0].weight.requires_grad_(False)
    model(torch.randn(2, 40))
    found = retention_loss(model)
    assert found.item() == pytest.approx(sum(each[1:]).item() / 2, rel=1e-3) and found.requires_grad
    model.requires_grad_(False)
    assert retention_loss(model).item() == pytest.approx(sum(each).item() / 3, rel=1e-3)  # nothing is trained: of all


def test_bad_settings():
    with pytest.raises(UserError, match="at least one age"):
        RetentionLoss(())
    with pytest.raises(UserError, match="share=0"):
        RetentionLoss(share=0)
    model = _model(load_hardware("reram_cmo"))
    with pytest.raises(UserError, match="install_retention"):
        retention_loss(model)
    with pytest.raises(UserError, match="at least 1 s"):
        install_retention(model, RetentionLoss((0.5,)))
