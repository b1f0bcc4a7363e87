"""What conversion refuses, by name, and with nothing half done."""

import pytest
import yaml
from torch import nn
from torch.nn.utils import parametrizations

from hwaware.errors import UserError
from hwaware.hardware import Placement, Rule, load_hardware
from hwaware.nn import convert
from tests.placing import without

DEVICE = load_hardware("reram_cmo")


class _Reads(nn.Linear):
    pass


def test_what_cannot_be_converted_is_refused_by_name():
    cases = [
        (nn.Sequential(nn.Linear(4, 4), _Reads(4, 4)), "layer '1' (_Reads)"),
        (nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 2)), "layer '1' (Bilinear)"),
        (nn.Sequential(nn.Linear(4, 4), nn.RNN(4, 4)), "layer '1' (RNN)"),
        (nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), "layer '0' (ParametrizedLinear)"),
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4))), "layer '0' (Linear) computes its weight"),
    ]
    for model, message in cases:
        classes = [type(module) for module in model.modules()]
        with pytest.raises(UserError) as raised:
            convert(model, DEVICE)
        name = message.split("'")[1]
        assert message in str(raised.value) and f"[{{match: {name}, digital: true}}]" in str(raised.value)
        assert [type(module) for module in model.modules()] == classes  # nothing half done
    model = nn.Sequential(nn.Linear(4, 4), nn.RNN(4, 4))
    assert len(convert(model, without(DEVICE, "1")).layers) == 1


def _refused(model):
    with pytest.raises(UserError) as raised:
        convert(model, DEVICE)
    return str(raised.value)


def test_all_are_refused_at_once_with_what_keeps_them_digital():
    def block():
        layers = {"a": nn.Linear(4, 4), "b": _Reads(4, 4), "c": nn.Bilinear(4, 4, 2)}
        return nn.ModuleDict(layers)

    model = nn.ModuleDict({"blocks": nn.ModuleList(block() for _ in range(12)), "last": nn.Bilinear(4, 4, 2)})
    model["blocks"][3]["a"] = parametrizations.weight_norm(nn.Linear(4, 4))
    message = _refused(model)
    assert "layers 'blocks.0.b', 'blocks.1.b', 'blocks.2.b', 'blocks.3.b' and 8 more (_Reads); layer" in message
    assert "and 9 more (Bilinear); layer 'blocks.3.a' (ParametrizedLinear) have weights, but no analog form" in message
    digital = "[{match: ['blocks.*.b', 'blocks.*.c', blocks.3.a, last], digital: true}]"
    assert digital in message  # no pattern has 'blocks.3.a' and not 'blocks.4.a'
    rules = yaml.safe_load(digital)
    assert len(convert(model, without(DEVICE, *rules[0]["match"])).layers) == 11


def test_a_network_is_converted_once_and_as_a_whole():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    convert(model, Placement(DEVICE, digital=("1",)))
    with pytest.raises(UserError, match="layer '0' is analog already"):
        convert(model, Placement(DEVICE, digital=("0",)))
    assert type(model[1]) is nn.Linear
    with pytest.raises(UserError, match=r"layer '0' has no weights \(shape \(4, 0\)\)"):
        convert(nn.Sequential(nn.Linear(0, 4), nn.Linear(4, 4)), DEVICE)


def test_hardware_of_what_cells_cannot_hold_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    offset = load_hardware("reram_cmo", mapping="offset")
    with pytest.raises(UserError, match=r"'1' matches no layer that can be analog, only BatchNorm2d. .*: 0"):
        convert(model, Placement(DEVICE, (Rule(("1",), offset),)))
    assert type(model[0]) is nn.Conv2d
    convert(model, Placement(DEVICE, (Rule(("1", "2"), None),)))


class _OwnAttention(nn.MultiheadAttention):
    pass


def test_a_fast_path_that_skips_the_layer_is_refused():
    message = _refused(nn.Sequential(nn.Linear(8, 8), _OwnAttention(8, 2)))
    assert "layer '1' (_OwnAttention) has weights" in message
    assert "layer '1.out_proj' (NonDynamicallyQuantizableLinear) lies in a module whose fast path reads" in message
    assert "hardware.layers: [{match: 1, digital: true}]" in message
    convert(nn.Sequential(nn.Linear(8, 8), _OwnAttention(8, 2)), without(DEVICE, "1"))


def test_a_tie_to_a_digital_layer_is_refused():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    with pytest.raises(UserError, match=r"layer '1' is tied to '0.weight', which stays digital"):
        convert(model, DEVICE)


def test_a_tie_across_hardware_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    other = load_hardware("reram_cmo", temperature_c=85, activation_energy_ev=1.1)
    with pytest.raises(UserError, match=r"layers '2' and '0' share one weight but have different hardware: give"):
        convert(model, Placement(DEVICE, (Rule(("2",), other),)))
    assert type(model[0]) is nn.Linear  # nothing half done
    report = convert(model, Placement(DEVICE, (Rule(("0", "2"), other),)))
    assert [row.name for row in report.layers] == ["0", "1"] and model[2].hardware == other


def test_nan_weights_are_refused_by_name():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight.data[1, 2] = float("nan")
    with pytest.raises(UserError, match="layer '0' has values that are not finite"):
        convert(model, DEVICE)
    assert type(model[0]) is nn.Linear
