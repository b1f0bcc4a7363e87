"""A network that reads a weight itself gives no output on a chip; one that leaves a layer out does."""

import copy
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip, drift_free
from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert, effective_state_dict, to_digital

DEVICE = load_hardware("reram_cmo")


class Reading(nn.Module):
    """Reads the weights of some layers, in one way or another."""

    def __init__(self, how):
        super().__init__()
        self.called, self.how = nn.Linear(6, 6), how
        self.read = nn.ModuleList(nn.Linear(6, 6) for _ in range(6))

    def forward(self, x):
        x = self.called(x)
        for layer in self.read:
            x = self.how(layer, x)
        return x


WAYS = {
    "functional": lambda layer, x: F.linear(x, layer.weight, layer.bias),
    "product": lambda layer, x: x @ layer.weight.T,
    "keyword": lambda layer, x: F.linear(x, weight=layer.weight),
    "list": lambda layer, x: x + torch.cat([layer.weight, layer.weight]).sum(),
    "data": lambda layer, x: F.linear(x, layer.weight.data),
    "parameters": lambda layer, x: F.linear(x, next(layer.parameters())),
    "copy": lambda layer, x: F.linear(x, layer.weight.to(torch.float64).float()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_that_is_read_is_refused_before_an_output_is_seen(way):
    model = Reading(WAYS[way]).eval()
    convert(model, DEVICE)
    chip, seen = Chip.program(model, CHIP_SEED_START), []
    for _ in range(2):  # and again: it does not forget
        with pytest.raises(UserError) as raised, chip.at(3600.0):
            seen.append(model(torch.randn(2, 6)))
        message = str(raised.value)
        assert "layers 'read.0', 'read.1', 'read.2', 'read.3' and 2 more (Linear) were converted" in message
        assert "keep them digital" in message or "keep it digital" in message
        assert "[{match: 'read.*', digital: true}]" in message
    assert not seen and "forward" not in vars(model) and model.called._installed is None


BESIDE = {
    "functional": lambda layer, x: F.linear(layer(x), layer.weight),
    "view": lambda layer, x: layer(x) @ layer.weight.T,
    "detached": lambda layer, x: torch.einsum("ni,oi->no", layer(x), layer.weight.detach()),
}


@pytest.mark.parametrize("way", BESIDE)
@pytest.mark.parametrize("kappa", [None, 2.0])
def test_so_is_one_that_is_read_beside_calling_its_layer(way, kappa):
    model = Reading(BESIDE[way]).eval()
    convert(model, load_hardware("reram_cmo", kappa=kappa))
    with pytest.raises(UserError, match=r"'read.3' and 2 more .Linear. were .* but the network also multiplies"):
        with Chip.program(model, CHIP_SEED_START).at(3600.0):
            model(torch.randn(2, 6))
    with pytest.raises(UserError, match="also multiplies"), drift_free(model):
        model(torch.randn(2, 6))


def test_innocent_looks_at_a_weight_are_none():
    def look(layer, x):
        return layer(x.to(layer.weight.dtype).to(layer.weight.device)) + layer.weight.shape[0] + layer.weight.sum()

    model = Reading(look).eval()
    convert(model, DEVICE)
    with Chip.program(model, CHIP_SEED_START).at(3600.0):
        model(torch.randn(2, 6))
    assert all(layer._watched for layer in analog_layers(model).values())
    to_digital(model)
    assert not any(hasattr(module, "_watched") for module in model.modules())


def test_an_idle_layer_is_told_once_and_no_error():
    model = Reading(lambda layer, x: x).eval()
    convert(model, DEVICE)
    chip = Chip.program(model, CHIP_SEED_START)
    with pytest.warns(UserWarning, match=r"6 more|never called: 432 unused cells.*'read.\*'"), chip.at(1.0):
        model(torch.randn(2, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with chip.at(1.0):
            model(torch.randn(2, 6))


def test_a_tie_to_a_layer_that_is_called_is_not_read_past():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    model.forward = lambda x: model["a"](x)
    convert(model.eval(), DEVICE)
    own = model.forward
    with Chip.program(model, CHIP_SEED_START).at(1.0):
        model(torch.randn(1, 4))
    assert model.forward is own


class Switching(nn.Module):
    """As timm's attention of BEiT."""

    def __init__(self):
        super().__init__()
        self.qkv_bias_separate = False


SMALL = {
    "beit_base_patch16_224": {"depth": 1, "embed_dim": 24, "num_heads": 2, "num_classes": 3},
    "eva02_tiny_patch14_224": {"depth": 1, "embed_dim": 24, "num_heads": 2, "num_classes": 3, "img_size": 56},
    "swinv2_tiny_window8_256": {"depths": (1, 1), "embed_dim": 24, "num_heads": (2, 2), "num_classes": 3},
}


@pytest.mark.parametrize("name", SMALL)
def test_timm_s_attention_calls_its_layers_once_it_is_in_cells(name):
    torch.manual_seed(0)
    digital = timm.create_model(name, **SMALL[name]).eval()
    with torch.no_grad():
        for parameter in digital.parameters():  # branches are born near zero
            parameter.normal_(std=0.3)
    model = copy.deepcopy(digital)
    convert(model, DEVICE)
    images = torch.randn(2, *digital.pretrained_cfg["input_size"])
    images = images if "img_size" not in SMALL[name] else images[..., :56, :56]
    wanted = digital(images)
    torch.testing.assert_close(model(images), wanted, rtol=1e-3, atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Chip.program(model, CHIP_SEED_START).at(315_360_000.0), torch.no_grad():
            assert not torch.allclose(model(images), wanted, atol=1e-3)
    fresh = timm.create_model(name, **SMALL[name]).eval()
    fresh.load_state_dict(effective_state_dict(model))
    torch.testing.assert_close(fresh(images), wanted, rtol=1e-3, atol=1e-4)
    switches = [m for m in to_digital(model).modules() if "qkv_bias_separate" in vars(m)]
    assert switches and not any(m.qkv_bias_separate for m in switches)
    assert not any("_before_rewriting" in vars(m) for m in model.modules())


def test_what_was_rewritten_for_nothing_is_as_it_was():
    model = nn.ModuleDict({"attention": Switching(), "linear": nn.Linear(2, 2), "odd": nn.Bilinear(2, 2, 2)})
    with pytest.raises(UserError, match="Bilinear"):
        convert(model, DEVICE)
    assert vars(model["attention"])["qkv_bias_separate"] is False
