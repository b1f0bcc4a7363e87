"""Torch's LSTM and GRU against their digital selves."""

import copy

import pytest
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.compensation import VeraPlus
from hwaware.compensation.costs import network_size
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert, effective_state_dict, to_digital
from hwaware.training import TrainingNoise, install_noise

DEVICE = load_hardware("reram_cmo")
N, T, C, H = 3, 5, 4, 6

OPTIONS = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "no_bias": {"bias": False},
    "bidirectional": {"bidirectional": True},
    "deep": {"num_layers": 3, "bidirectional": True, "batch_first": True},
}

every = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])


def _made(kind, **options):
    torch.manual_seed(0)
    digital = kind(C, H, **options).eval()
    model = copy.deepcopy(digital)
    convert(model, DEVICE)
    return digital, model


def _same(found, wanted):
    (output, state), (other, last) = found, wanted
    torch.testing.assert_close(output, other, rtol=1e-4, atol=1e-5)
    pairs = zip(state, last, strict=True) if isinstance(last, tuple) else [(state, last)]
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@every
def test_the_function_is_kept_and_comes_back(kind, options):
    digital, model = _made(kind, **options)
    matrices = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    x = torch.randn(N, T, C) if options.get("batch_first") else torch.randn(T, N, C)
    start = torch.randn(2, matrices, N, H)
    hx = tuple(start) if kind is nn.LSTM else start[0]
    alone = tuple(start[:, :, 0]) if kind is nn.LSTM else start[0, :, 0]
    for inputs in ((x,), (x, hx), (torch.randn(T, C),), (torch.randn(T, C), alone)):
        _same(model(*inputs), digital(*inputs))
    assert len(analog_layers(model)) == 2 * matrices and list(model.state_dict()) == list(digital.state_dict())
    fresh = kind(C, H, **options).eval()
    fresh.load_state_dict(effective_state_dict(model))
    _same(fresh(x), digital(x))
    to_digital(model)
    assert type(model) is kind and not model._modules and set(vars(model)) == set(vars(digital))
    _same(model(x), digital(x))


@every
def test_cells_without_a_curve(kind):
    """Whose weights are the latents themselves."""
    torch.manual_seed(0)
    digital = kind(C, H, batch_first=True)
    model = copy.deepcopy(digital)
    convert(model, load_hardware("reram_cmo", kappa="linear"))
    x = torch.randn(N, T, C)
    _same(model(x), digital(x))
    model(x)[0].sum().backward()
    digital(x)[0].sum().backward()
    torch.testing.assert_close(model.weight_hh_l0.grad, digital.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)


@every
def test_chips_noise_repairs_and_costs(kind):
    digital, model = _made(kind, batch_first=True)
    x = torch.randn(N, T, C)
    with Chip.program(model, CHIP_SEED_START).at(315_360_000.0), torch.no_grad():
        assert not torch.allclose(model(x)[0], digital(x)[0], atol=1e-3)
    size = network_size(model, lambda network, batch: network(batch[0])[0], (x, None))
    gates = 4 if kind is nn.LSTM else 3
    assert {name: layer.macs for name, layer in size.layers.items()} == {
        "ih_l0": T * gates * H * C, "hh_l0": T * gates * H * H
    }  # fmt: skip
    method = VeraPlus()
    state = {f"{name}/b": torch.randn(gates * H).requires_grad_() for name in analog_layers(model)}
    state |= {f"{name}/d": torch.randn(method.rows).requires_grad_() for name in analog_layers(model)}
    with method.installed(model, state):
        model(x)[0].square().sum().backward()
    assert all(value.grad.any() for value in state.values())
    model.zero_grad()
    install_noise(model.train(), TrainingNoise())
    assert not torch.equal(model(x)[0], model(x)[0])
    model(x)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_noise_is_drawn_once_a_sequence():
    """Of a state's matrix that has the same input at each step."""
    _, model = _made(nn.GRU)
    install_noise(model.train(), TrainingNoise())
    fed = []
    model.hh_l0.register_forward_hook(lambda layer, args, output: fed.append(layer._installed))
    model(torch.randn(T, N, C))
    assert len(fed) == T and all(one is fed[0] for one in fed) and model.hh_l0._installed is None


def test_what_has_no_form_is_told():
    with pytest.raises(UserError, match=r"layer '1' \(LSTM\) has weights"):
        convert(nn.Sequential(nn.Linear(2, 2), nn.LSTM(4, 4, proj_size=2)), DEVICE)
    _, model = _made(nn.LSTM)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(T, N, C), torch.tensor([5, 3, 2]))
    with pytest.raises(UserError, match="LSTM in cells does not support packed sequences"):
        model(packed)
