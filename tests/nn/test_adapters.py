"""Low-rank adapters beside layers: right on chips, behind converters, merged, and as peft has them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.errors import UserError
from hwaware.evaluation.adapter_costs import adapter_cost
from hwaware.hardware import Converters, load_hardware
from hwaware.nn import adapters, add_adapters, analog_layers, calibrate, convert, merge_adapters, to_digital
from hwaware.nn.adapters import adapter_state, refuse_adapters, split_adapters

YEAR_S = 31_536_000.0
HARDWARE = load_hardware("reram_cmo", mapping="differential")  # whose curve makes latents other than weights


class Net(nn.Module):
    """Strides, paddings of two kinds, a grouped convolution, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.mirror = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.grouped(self.mirror(self.first(x)).relu()).relu()
        return self.head(x.mean((2, 3)))


def adapted(rank: int = 2, gain: float = 2.0, trained: bool = True) -> Net:
    torch.manual_seed(0)
    model = Net().eval()
    add_adapters(model, rank, gain)
    if trained:
        for _, adapter in adapters(model).values():
            nn.init.normal_(adapter.up, std=0.1)
    return model


@pytest.fixture
def images():
    return torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def test_a_network_begins_as_it_was_and_only_adapters_are_trained(images):
    model, plain = adapted(trained=False), Net().eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if ".adapter." not in key})
    assert torch.equal(model(images), plain(images))
    assert list(adapters(model)) == ["first", "mirror", "head"]  # groups have none
    assert {name for name, one in model.named_parameters() if one.requires_grad} == {
        f"{name}.adapter.{what}" for name in ("first", "mirror", "head") for what in ("down", "up")
    }


@torch.no_grad()
def test_beside_the_cells_is_the_same_as_merged_into_effective_weights(images):
    model = adapted()
    expected = model(images)
    merged = merge_adapters(copy.deepcopy(model))
    torch.testing.assert_close(merged(images), expected)
    assert not adapters(merged) and list(merged.state_dict()) == list(Net().state_dict())
    convert(model, HARDWARE)
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merge_adapters(to_digital(model))(images), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_split_again_the_same_cells_hold_the_same_weights(images):
    model = adapted()
    state, merged = adapter_state(model), merge_adapters(copy.deepcopy(model))
    again = split_adapters(merged, state, 2.0)
    for one in (model, again):
        convert(one, HARDWARE)
    for name, layer in analog_layers(model).items():
        torch.testing.assert_close(analog_layers(again)[name].weight, layer.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(again(images), model(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_on_a_chip_cells_err_and_adapters_do_not(images):
    model = adapted()
    bare = split_adapters(merge_adapters(copy.deepcopy(model)), {}, 2.0)
    bare.load_state_dict({key: value for key, value in model.state_dict().items() if ".adapter." not in key})
    for one in (model, bare):
        convert(one, HARDWARE)
    found = {}
    model.first.register_forward_hook(lambda layer, args, output: found.update(y=output))
    with Chip.program(model, 2_000_000).at(YEAR_S), Chip.program(bare, 2_000_000).at(YEAR_S):
        model(images)
        exact = model.first.adapter.beside(model.first, images)
        torch.testing.assert_close(found["y"], bare.first(images) + exact)


@torch.no_grad()
def test_behind_converters_an_adapter_is_exact(images):
    hardware = load_hardware("reram_cmo", converters=Converters(dac_bits=3, adc_bits=3))
    model, plain = adapted(), adapted(trained=False)
    for one in (model, plain):
        convert(one, hardware)
        calibrate(one, lambda network, batch: network(batch), [images])
    with drift_free(model), drift_free(plain):
        beside = model.first(images) - plain.first(images)
    torch.testing.assert_close(beside, model.first.adapter.beside(model.first, images), rtol=1e-4, atol=1e-5)


def test_as_peft_has_them(images):
    """Linear layers and convolutions, with the same A and B; peft pads with zeros where a layer mirrors."""
    peft = pytest.importorskip("peft")
    model = adapted()
    nn.init.zeros_(model.mirror.adapter.up)
    torch.manual_seed(0)
    theirs = peft.get_peft_model(Net().eval(), peft.LoraConfig(r=2, lora_alpha=4, target_modules=["first", "head"]))
    for name in ("first", "head"):
        _, adapter = adapters(model)[name]
        wrapped = theirs.base_model.model.get_submodule(name)
        for linear, own in ((wrapped.lora_A, adapter.down), (wrapped.lora_B, adapter.up)):
            linear["default"].weight.data = own.detach().reshape(linear["default"].weight.shape)
    torch.testing.assert_close(model(images), theirs(images))


def test_pefts_own_run_beside_the_cells_and_are_not_merged_into_latents(images):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["first", "head"], init_lora_weights=False)
    torch.manual_seed(0)
    before = peft.get_peft_model(Net().eval(), config).eval()  # adapters first, cells then
    with torch.no_grad():
        expected = before(images)
        convert(before, HARDWARE)
        torch.testing.assert_close(before(images), expected, rtol=1e-4, atol=1e-5)
    assert [name.rpartition("model.")[2] for name in analog_layers(before)] == [
        "first.base_layer", "mirror", "grouped", "head.base_layer",
    ]  # fmt: skip
    after = Net().eval()
    convert(after, HARDWARE)
    after = peft.get_peft_model(after, config).eval()
    weights = {name: layer.weight.clone() for name, layer in analog_layers(after).items()}
    for one, name in ((before, "first"), (after, "first")):
        for merge in (one.merge_and_unload, one.merge_adapter):
            with pytest.raises(UserError, match=rf"^layer '.*{name}' is analog, and peft would merge its adapter into"):
                merge()
    assert all(torch.equal(layer.weight, weights[name]) for name, layer in analog_layers(after).items())
    with torch.no_grad():
        torch.testing.assert_close(to_digital(before).merge_and_unload()(images), expected, rtol=1e-4, atol=1e-5)


def test_what_adapters_store_and_compute(images):
    model = adapted(rank=2)
    own = 3 * 8 * 9 + 8 * 8 * 9 + 8 * 2 * 9 + 8 * 4 + 8 + 8 + 4  # weights and biases
    convert(model, HARDWARE)
    cost = adapter_cost(model, lambda network, batch: network(batch[0]), [images[:1]])
    values = (2 * 3 * 9 + 8 * 2, 2 * 8 * 9 + 8 * 2, 2 * 8 + 4 * 2)
    macs, network = 36 * (values[0] + values[1]) + values[2], 36 * (3 * 8 * 9 + 8 * 8 * 9 + 8 * 2 * 9) + 32
    assert (cost.layers, cost.values, cost.bytes_stored) == (3, sum(values), 2 * sum(values))
    assert (cost.macs, cost.extra_macs_percent) == (macs, pytest.approx(100 * macs / network))
    assert cost.trainable_percent == pytest.approx(100 * sum(values) / own)


def test_bad_input():
    with pytest.raises(UserError, match=r"^adapters.match: 'heads' matches no layer. Did you mean 'head'\?$"):
        add_adapters(Net(), 2, 1.0, ("heads",))
    with pytest.raises(UserError, match=r"^adapters\.match: 'grouped' matches no layer"):
        add_adapters(Net(), 2, 1.0, ("grouped",))
    state = adapter_state(adapted())
    with pytest.raises(UserError, match=r"^there is an adapter for layer 'first', which the network does not have.$"):
        split_adapters(nn.Sequential(nn.Linear(2, 2)), state, 1.0)
    other = Net()
    other.first = nn.Conv2d(3, 9, 3)
    with pytest.raises(UserError, match=r"^the adapter of layer 'first' does not fit its weight, \[9, 3, 3, 3\].$"):
        split_adapters(other, state, 1.0)
    with pytest.raises(
        UserError, match=r"^the network has adapters beside 3 layers \('first'\), which a bundle does not"
    ):
        refuse_adapters(adapted(), "a bundle")
