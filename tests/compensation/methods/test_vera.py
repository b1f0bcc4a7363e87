import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwaware.compensation import VeraPlus
from hwaware.compensation.quantise import quantised
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert, installed_weights, to_digital


def _converted(*layers):
    model = nn.Sequential(*layers).eval()
    convert(model, load_hardware("reram_cmo"))
    return model


def test_linear_layers_are_pefts_vera():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = _converted(nn.Linear(6, 5), nn.Linear(5, 7))
    plain = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 7))
    plain.load_state_dict({k: v for k, v in model.state_dict().items()})
    for mine, other in zip(model, plain, strict=True):
        other.weight.data = mine.effective_weight()
    config = peft.VeraConfig(r=3, target_modules=["0", "1"], save_projection=True)
    vera = peft.get_peft_model(plain, config)
    method = VeraPlus(rank=3, constant=False, bits=16)
    projections, state = method._projections(model), {}
    for name in ("0", "1"):
        layer = vera.base_model.model.get_submodule(name)
        a, b = projections[name]
        layer.vera_A["default"].data[:, : a.shape[1]] = a
        layer.vera_B["default"].data[: b.shape[0], :] = b
        d, scale = torch.rand(3), torch.randn(b.shape[0])
        layer.vera_lambda_d["default"].data, layer.vera_lambda_b["default"].data = d, scale
        state |= {f"{name}/d": d, f"{name}/b": scale}
    x = torch.randn(4, 6)
    with torch.no_grad(), method.installed(model, state):
        torch.testing.assert_close(model(x), vera(x), rtol=1e-2, atol=5e-3)  # scales are stored in half precision


@pytest.mark.parametrize("padding", [1, 0, "same"])
def test_a_convolutions_branch_sees_the_centre_with_the_layers_stride(padding):
    torch.manual_seed(0)
    model = _converted(nn.Conv2d(3, 4, 3, stride=1 if padding == "same" else 2, padding=padding))
    method = VeraPlus(rank=2, constant=False, bits=16)
    state = {"0/b": torch.randn(4), "0/d": torch.rand(2)}
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        before = model(x)
        with method.installed(model, state):
            branch = model(x) - before
        a, b = method._projections(model)["0"]
        inner = x if padding else x[..., 1:-1, 1:-1]
        hidden = F.conv2d(inner, a[:, :, 1:2, 1:2], stride=model[0].stride)
        wanted = F.conv2d(hidden * state["0/d"].view(1, 2, 1, 1), b[:, :, None, None]) * state["0/b"].view(1, 4, 1, 1)
    torch.testing.assert_close(branch, wanted, rtol=1e-2, atol=5e-3)  # scales are stored in half precision


def test_the_constant_row_holds_a_uniform_shift_exactly():
    """What the mean drift of a one-cell mapping does to a weight: the same for all of them."""
    torch.manual_seed(0)
    model = _converted(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 5))
    method, x = VeraPlus(rank=1, bits=16), torch.randn(2, 3, 6, 6)
    shift = -0.02
    state = {}
    for name in ("0", "2"):
        fan_in = model.get_submodule(name).weight[0].numel()
        state[f"{name}/b"] = torch.full((len(model.get_submodule(name).weight),), -shift * math.sqrt(fan_in))
        state[f"{name}/d"] = torch.tensor([0.0, 1.0])
    with torch.no_grad():
        exact = model(x)
        with installed_weights(model, lambda name, layer: layer.effective_weight() + shift):
            assert (model(x) - exact).abs().max() > 0.01
            with method.installed(model, state):
                torch.testing.assert_close(model(x), exact, rtol=1e-3, atol=1e-3)


def test_training_starts_from_what_the_devices_law_says(model):
    """A drift that moves all cells alike is undone before the first step, a constant row given."""
    device, age_s = load_hardware("reram_cmo", mapping="offset", kappa=None, clamp="zero"), 315_360_000.0
    convert(to_digital(model), device)
    layers = analog_layers(model)
    errors = {}
    for name, layer in layers.items():
        u = layer.weight.detach().double() / layer.weight_scale()
        errors[name] = (
            device.encoding.moments(device.device, u, age_s, read_noise=False)[0] * layer.weight_scale()
        ).float()

    def left(method):
        state = method._against_mean_error(model, age_s)
        with torch.no_grad(), method.installed(model, state):
            moved = {name: layer.realised_weight() - layer.effective_weight() for name, layer in layers.items()}
        return max(((moved[name] + error).norm() / error.norm()).item() for name, error in errors.items())

    assert left(VeraPlus(rank=1, bits=16)) < 0.02 < 0.5 < left(VeraPlus(rank=1, constant=False, bits=16))


@pytest.mark.parametrize(("rank", "full_kernel"), [(0, False), (2, False), (2, True)])
def test_the_vectors_gradients_are_those_of_the_branch(rank, full_kernel, model, data):
    """Against automatic differentiation of the weight, on grouped, depthwise, reused, strided and linear layers."""
    method = VeraPlus(rank=rank, full_kernel=full_kernel, bits=16)
    draw = torch.Generator().manual_seed(0)
    state = {}
    for name, layer in analog_layers(model).items():
        state[f"{name}/b"] = 0.1 * torch.randn(len(layer.weight), generator=draw)
        state[f"{name}/d"] = torch.rand(method.rows, generator=draw)
    state = {name: value.requires_grad_(True) for name, value in state.items()}
    batch = data.calibration(8)
    with method.installed(model, state):
        loss = data.loss(model, batch)
    mine = torch.autograd.grad(loss, list(state.values()))

    projections = method._projections(model)
    vectors = {name: quantised(value, 16) for name, value in state.items()}

    def weight(name, layer):
        down, up = projections[name]
        branch = (vectors[f"{name}/b"][:, None] * up * vectors[f"{name}/d"]) @ down.flatten(1)
        return layer.effective_weight() + branch.view_as(layer.weight)

    with installed_weights(model, weight):
        same = data.loss(model, batch)
    assert loss.item() == pytest.approx(same.item(), rel=1e-5)
    for name, one, other in zip(state, mine, torch.autograd.grad(same, list(state.values())), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


def test_stored_vectors():
    vector = torch.tensor([-0.5, 0.11, 0.0, 0.4])
    stored = quantised(vector, 4)
    steps = stored / stored.abs().max() * 7
    torch.testing.assert_close(steps, steps.round())
    assert (stored - vector).abs().max() <= 0.5 / 7 / 2 + 1e-3
    assert torch.equal(quantised(torch.zeros(3), 8), torch.zeros(3))
    vector.requires_grad_()
    quantised(vector, 4).sum().backward()
    assert torch.equal(vector.grad, torch.ones(4))
