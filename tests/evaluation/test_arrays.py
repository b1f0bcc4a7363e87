"""A network's arrays: how often each layer is read, and what is shared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import hwaware.models  # noqa: F401 - registers ResNet-20
from hwaware.errors import UserError
from hwaware.evaluation.arrays import layer_positions, network_arrays
from hwaware.hardware import Converters, Wires, load_hardware
from hwaware.nn import convert
from tests.tiny import TinyNet


def _counted(model, x, **settings):
    convert(model.eval(), load_hardware("reram_cmo", **settings))
    return network_arrays(model, layer_positions(model, lambda network, batch: network(batch[0]), (x,)))


def test_resnet_20_in_arrays_of_256_rows():
    import timm

    model = timm.create_model("resnet20_cifar")
    found = _counted(model, torch.randn(2, 3, 32, 32), rows=256, columns=128)
    assert len(found) == 20
    by_hand = {  # reads, arrays, ADC conversions of a read, DAC conversions of a read
        "conv1": (1024, 1, 16, 27),
        "layer1.2.conv2": (1024, 1, 16, 144),
        "layer2.0.conv1": (256, 1, 32, 144),
        "layer2.1.conv1": (256, 2, 2 * 32, 288),
        "layer3.0.conv1": (64, 2, 2 * 64, 288),
        "layer3.2.conv2": (64, 3, 3 * 64, 576),
        "linear": (1, 1, 10, 64),
    }
    for name, (reads, arrays, adcs, dacs) in by_hand.items():
        one = found[name]
        assert (one.reads, one.arrays, one.adcs, one.dacs) == (reads, arrays, adcs, dacs), name
        assert (one.adc_conversions, one.dac_conversions) == (reads * adcs, reads * dacs)


def test_a_layer_called_twice_is_read_twice_and_tied_layers_share_their_arrays():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.tied, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
            self.tied.weight = self.first.weight

        def forward(self, x):
            return self.last(self.tied(self.first(self.first(x))))

    found = _counted(Twice(), torch.randn(4, 8))
    assert {name: (one.reads, one.arrays, one.adcs) for name, one in found.items()} == {
        "first": (3, 1, 8),
        "last": (1, 1, 2),
    }


def test_tokens_are_reads():
    import timm

    found = _counted(timm.create_model("tiny_test_vit"), torch.randn(2, 3, 8, 8))
    reads = {name: one.reads for name, one in found.items()}
    assert reads["patch_embed.proj"] == 4 and reads["blocks.1.attn.qkv"] == reads["blocks.0.mlp.fc1"] == 5
    assert reads["head"] == 1


def test_neither_ranges_nor_wires_are_needed(monkeypatch):
    settings = {"rows": 16, "converters": Converters(adc_bits=8, dac_bits=8), "wires": Wires(segment_ohm=1.0)}
    monkeypatch.setattr(Wires, "effective_us", lambda *_: pytest.fail("wires are worked out"))
    found = _counted(model := TinyNet(), torch.randn(1, 3, 8, 8), **settings)
    assert {name: one.parts for name, one in found.items()} == {"conv1": 3, "conv2": 8, "linear": 16}
    assert model.conv1.hardware.crossbar.rows == 16  # as before


def test_what_conversion_says_of_arrays():
    report = convert(TinyNet(), load_hardware("reram_cmo", rows=16, columns=32))
    assert [one.n_arrays for one in report.layers] == [3, 8, 16] and report.n_arrays == 27
    assert "27 arrays of 16 × 32" in str(report)


def test_a_layer_of_too_many_arrays_is_refused_and_named():
    model = nn.Sequential(nn.Linear(1000, 4), nn.Linear(1500, 1000, device="meta"))
    with pytest.raises(UserError, match=r"layer '1': crossbar: rows=1 and columns=2 split it into 1,500,000 arrays"):
        convert(model, load_hardware("reram_cmo", mapping="differential", rows=1, columns=2))
    assert type(model[0]) is nn.Linear  # nothing has changed
