"""Torch's attention, and its encoder and decoder layers, against their digital selves."""

import copy
import io

import pytest
import torch
import torchvision
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.errors import UserError
from hwaware.export.bundle import read_bundle, write_bundle
from hwaware.hardware import Placement, Rule, load_hardware
from hwaware.nn import analog_layers, convert, effective_state_dict, to_digital
from hwaware.nn.layers import Part
from hwaware.training import TrainingNoise, install_noise

DEVICE = load_hardware("reram_cmo")
N, L, S, E, HEADS = 3, 5, 7, 12, 4


def _attention(**options):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(E, HEADS, **options).eval()
    if layer.in_proj_bias is not None:
        nn.init.normal_(layer.in_proj_bias)
    return layer


def _converted(digital, hardware=DEVICE):
    model = copy.deepcopy(digital)
    convert(model, hardware)
    return model


def _same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        if other is None:
            assert one is None
        else:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _inputs(batch_first, kind):
    query = torch.randn(N, L, E)
    key = query if kind == "self" else torch.randn(N, S, E)
    value = key if kind != "all" else torch.randn(N, S, E)
    if not batch_first:
        found = {id(one): one.transpose(0, 1) for one in (query, key, value)}
        return [found[id(one)] for one in (query, key, value)]
    return [query, key, value]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["self", "cross", "all"])
def test_the_function_is_kept(kind, batch_first, bias):
    digital = _attention(batch_first=batch_first, bias=bias)
    model = _converted(digital)
    inputs = _inputs(batch_first, kind)
    length = inputs[1].shape[1 if batch_first else 0]
    padding = torch.zeros(N, length, dtype=torch.bool)
    padding[1, -2:] = True
    causal = torch.ones(L, length, dtype=torch.bool).triu(1)
    for options in (
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"key_padding_mask": padding},
        {"key_padding_mask": padding, "need_weights": False, "attn_mask": causal},
        {"attn_mask": causal, "is_causal": True, "need_weights": False},
        {"attn_mask": torch.randn(L, length)},
        {"attn_mask": torch.randn(N * HEADS, L, length), "need_weights": False},
        {"attn_mask": torch.randn(L, length), "key_padding_mask": torch.randn(N, length)},
    ):
        _same(model(*inputs, **options), digital(*inputs, **options))
    alone = [one.select(0 if batch_first else 1, 0) for one in inputs]
    alone[1:] = [alone[0]] * 2 if kind == "self" else alone[1:]
    _same(model(*alone), digital(*alone))
    _same(model(*alone, key_padding_mask=padding[1]), digital(*alone, key_padding_mask=padding[1]))


def test_keys_names_and_the_way_back():
    digital = _attention()
    model = _converted(digital)
    assert list(analog_layers(model)) == ["in_proj", "out_proj"]
    assert [model.in_proj.rows_shape, model.out_proj.rows_shape] == [(3 * E, E), (E, E)]
    assert list(model.state_dict()) == list(digital.state_dict())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in digital.named_parameters()]
    fresh = _attention()
    nn.init.zeros_(fresh.in_proj_weight)
    fresh.load_state_dict(effective_state_dict(model))
    x = torch.randn(L, N, E)
    wanted = digital(x, x, x)
    _same(fresh(x, x, x), wanted)
    for copied in (copy.deepcopy(model), _pickled(model)):
        assert copied.in_proj.whole is copied
        _same(copied(x, x, x), wanted)
    to_digital(model)
    assert type(model) is nn.MultiheadAttention and list(vars(model)) == list(vars(digital))
    assert list(model._modules) == ["out_proj"] and type(model.out_proj) is type(digital.out_proj)
    _same(model(x, x, x), wanted)


def _pickled(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def test_chips_and_noise_reach_all_four_matrices():
    digital = _attention(batch_first=True)
    model = _converted(digital)
    x = torch.randn(N, L, E)
    chip = Chip.program(model, CHIP_SEED_START)
    assert sum(target.latent.numel() for target in chip.targets.values()) == 4 * E * E
    with chip.at(315_360_000.0), torch.no_grad():
        assert not torch.allclose(model(x, x, x)[0], digital(x, x, x)[0], atol=1e-3)
    install_noise(model.train(), TrainingNoise())
    assert not torch.equal(model(x, x, x)[0], model(x, x, x)[0])
    model(x, x, x)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_takes_no_fast_path_past_its_chip(activation):
    torch.manual_seed(0)
    options = {"dim_feedforward": 16, "batch_first": True, "activation": activation}
    digital = nn.TransformerEncoder(nn.TransformerEncoderLayer(E, HEADS, **options), 2).eval()
    model = _converted(digital)
    assert len(analog_layers(model)) == 8
    x, padding = torch.randn(N, L, E), torch.zeros(N, L, dtype=torch.bool)
    padding[0, -2:] = True
    with torch.no_grad():
        for mask in (None, padding):
            seen = slice(None) if mask is None else ~mask
            wanted = digital(x, src_key_padding_mask=mask)[seen]
            torch.testing.assert_close(model(x, src_key_padding_mask=mask)[seen], wanted, rtol=1e-3, atol=1e-4)
            with Chip.program(model, CHIP_SEED_START).at(315_360_000.0):
                aged = [model(x, src_key_padding_mask=mask)[seen] for _ in range(2)]
            assert torch.equal(*aged) and not torch.allclose(aged[0], wanted, atol=1e-2)
    was = [vars(layer)["activation_relu_or_gelu"] for layer in digital.layers]
    assert [vars(layer)["activation_relu_or_gelu"] for layer in to_digital(model).layers] == was != [0, 0]


def test_torchvision_s_transformer_is_kept_and_aged():
    torch.manual_seed(0)
    digital = torchvision.models.VisionTransformer(16, 8, 2, 3, E, 16, num_classes=4).eval()
    nn.init.normal_(digital.heads.head.weight)
    model, images = _converted(digital), torch.randn(2, 3, 16, 16)
    assert len(analog_layers(model)) == 1 + 2 * 4 + 1
    torch.testing.assert_close(model(images), digital(images), rtol=1e-3, atol=1e-4)
    with Chip.program(model, CHIP_SEED_START).at(315_360_000.0), torch.no_grad():
        assert not torch.allclose(model(images), digital(images), atol=1e-2)


def test_a_bundle_gives_it_back(tmp_path):
    digital = _attention(batch_first=True)
    bundle = read_bundle(write_bundle(tmp_path / "bundle", _converted(digital), "attention"))
    other, x = nn.MultiheadAttention(E, HEADS, batch_first=True).eval(), torch.randn(N, L, E)
    bundle.install(other)
    _same(other(x, x, x), digital(x, x, x))


def test_a_decoder_is_kept():
    torch.manual_seed(0)
    digital = nn.TransformerDecoderLayer(E, HEADS, 16).eval()
    model = _converted(digital)
    x, memory = torch.randn(L, N, E), torch.randn(S, N, E)
    torch.testing.assert_close(model(x, memory), digital(x, memory), rtol=1e-3, atol=1e-4)


def test_rules_name_its_parts_and_what_stays_digital_is_untouched():
    other = load_hardware("reram_cmo", mapping="offset")
    model = nn.ModuleDict({"a": _attention(), "b": _attention(), "c": _attention()})
    report = convert(
        model, Placement(DEVICE, (Rule(("a.in_proj",), other), Rule(("b",), None), Rule(("c.in_proj",), None)))
    )
    assert [(row.name, row.kind) for row in report.layers] == [
        ("a.in_proj", "Part"), ("a.out_proj", "NonDynamicallyQuantizableLinear"),
        ("c.out_proj", "NonDynamicallyQuantizableLinear"),
    ]  # fmt: skip
    assert model["a"].in_proj.hardware == other and model["a"].out_proj.hardware == DEVICE
    assert type(model["b"]) is nn.MultiheadAttention and list(model["b"]._modules) == ["out_proj"]
    assert type(model["c"].in_proj) is Part
    x = torch.randn(L, N, E)
    _same(model["c"](x, x, x), _attention()(x, x, x))


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 6, "vdim": 6}])
def test_what_has_no_such_form_is_refused(options):
    with pytest.raises(UserError, match="MultiheadAttention"):
        convert(nn.Sequential(nn.Linear(2, 2), _attention(**options)), DEVICE)
