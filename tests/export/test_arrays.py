"""Layers cut into arrays in bundles: read back by the package, and by the example that knows nothing of it."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.errors import UserError
from hwaware.export.bundle import read_bundle, write_bundle
from hwaware.hardware import Converters, Placement, Ranges, Rule, Wires, load_hardware
from hwaware.hardware.encoding import MAPPING_NAMES
from hwaware.nn import analog_layers, calibrate, convert
from tests.conftest import ROOT

Example = runpy.run_path(str(ROOT / "examples" / "read_bundle.py"))["Bundle"]

SCHEMA_2 = Path(__file__).parent / "schema_2"


class Layers(nn.Module):
    """One of each form that a layer is cut in."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(50, 7)
        self.grouped = nn.Conv2d(6, 8, 3, groups=2, bias=False)
        self.depthwise = nn.Conv2d(10, 10, (3, 2), groups=10)
        self.taps = nn.Conv2d(3, 5, 5)
        self.transposed = nn.ConvTranspose2d(4, 6, 3, groups=2)


def _converted(hardware, network=Layers):
    torch.manual_seed(1)
    model = network().eval()
    convert(model, hardware)
    return model


def _written(folder, model):
    return write_bundle(folder / "bundle", model, "net")


SIZES = {"usual": (512, 512), "many": (16, 16), "taps cut": (5, 8), "columns run on": (30, 3), "cells": (1, 1)}


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mapping", MAPPING_NAMES)
def test_every_form_is_read_back(tmp_path, mapping, size, parallel):
    words = {"kappa": None} if mapping == "bit_sliced" else {"scale": "channel", "headroom_us": (5, 2.4)}
    rows, columns = SIZES[size]
    model = _converted(
        load_hardware("reram_cmo", mapping=mapping, rows=rows, columns=columns, parallel=parallel, **words)
    )
    folder, other = _written(tmp_path, model), Layers()
    read_bundle(folder).install(other)
    cells, example = load_file(folder / "conductances.safetensors"), Example(folder)
    for name, layer in analog_layers(model).items():
        n_arrays, *used = cells[name].shape
        assert n_arrays == layer.tiling.n_arrays and used[0] <= rows and used[1] <= columns
        assert (~cells[name].isnan()).sum() == layer.n_cells
        weight = layer.effective_weight()
        torch.testing.assert_close(analog_layers(other)[name].effective_weight(), weight, rtol=0, atol=2e-5)
        np.testing.assert_allclose(example.weight(name), weight, rtol=0, atol=2e-5)
    chips = [Chip.program(one, 2_000_000).weight_at("depthwise", 3600.0) for one in (model, other)]
    torch.testing.assert_close(*chips, rtol=0, atol=1e-4)


def test_mean_targets_are_read_by_the_list_of_positions(tmp_path):
    words = {"mean_target_ages_s": (1e8,), "range_fraction": 0.7}  # beyond, targets would lie outside of the window
    hardware = load_hardware("reram_cmo", mapping="differential", rows=16, columns=16, **words)
    model = _converted(hardware)
    example = Example(_written(tmp_path, model))
    assert len(example.manifest["decoding"][0]["positions"]) > 1000
    for name, layer in analog_layers(model).items():
        weight = layer.effective_weight()
        np.testing.assert_allclose(example.weight(name), weight, rtol=0, atol=1e-3 * weight.abs().max().item())


class Planned(nn.Module):
    """What a plan makes of a network: more cells for some layers, none for others, weights that are tied."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 40, 3)
        self.depthwise = nn.Conv2d(40, 40, 3, groups=40)
        self.digital = nn.Conv2d(40, 40, 1)
        self.inner, self.tied = nn.Linear(40, 40), nn.Linear(40, 40)
        self.tied.weight = self.inner.weight
        self.head = nn.Linear(40, 10)

    def forward(self, x):
        x = self.digital(self.depthwise(self.first(x).relu())).relu().mean((2, 3))
        return self.head(self.tied(self.inner(x).relu()).relu())


@pytest.mark.parametrize("converters", [False, True])
@torch.no_grad()
def test_a_planned_network_for_arrays_of_128(tmp_path, converters):
    about = Converters(adc_bits=7, dac_bits=7, output_noise=0.01, per_array=True) if converters else None
    wires = Wires(segment_ohm=0.5) if converters else None
    one = load_hardware("reram_cmo", mapping="differential", rows=128, columns=128, converters=about, wires=wires)
    rules = (Rule(("depthwise",), one.with_parallel(9)), Rule(("head",), one.with_parallel(2)))
    model, other, draw = _converted(Placement(one, rules, ("digital",)), Planned), Planned(), torch.Generator()
    x = torch.randn(8, 3, 12, 12, generator=draw.manual_seed(0))
    if converters:
        calibrate(model, lambda net, x: net(x), [x])
    bundle = read_bundle(_written(tmp_path, model))
    bundle.install(other.eval())
    assert list(analog_layers(other)) == ["first", "depthwise", "inner", "tied", "head"]
    for name, layer in analog_layers(model).items():
        assert bundle.hardware[name] == layer.hardware and analog_layers(other)[name].ranges == layer.ranges
    chips = [Chip.program(net, 2_000_000) for net in (model, other)]
    with drift_free(model), drift_free(other):
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=0.02 if converters else 1e-5)
    with chips[0].at(3600), chips[1].at(3600):
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=0.02 if converters else 1e-5)


CONVERTERS = {
    "both": {"dac_bits": 6, "adc_bits": 6},
    "adc, each array": {"adc_bits": 5, "per_array": True, "percentile": 99.0},
    "half of the voltages": {"adc_bits": 7, "input_range": 0.5},
}


@pytest.mark.parametrize("case", CONVERTERS)
@torch.no_grad()
def test_the_example_computes_by_arrays_as_layers_do(tmp_path, case):
    about = Converters(**CONVERTERS[case])
    hardware = load_hardware("reram_cmo", kappa=None, rows=20, columns=9, converters=about)
    model, draw = _converted(hardware), torch.Generator().manual_seed(0)
    x = torch.randn(30, 50, generator=draw)
    images = torch.randn(30, 6, 3, 3, generator=draw)  # one position each
    for layer, inputs in ((model.linear, x), (model.grouped, images)):
        calibrate(nn.Sequential(layer), lambda net, x: net(x), [inputs])
    for layer in (model.depthwise, model.taps, model.transposed):
        layer.ranges = Ranges(1.0, 1.0)
    folder = _written(tmp_path, model)
    found = Example(folder).product("linear", x.unsqueeze(-1).numpy()) + model.linear.bias.numpy()
    step = np.max(model.linear.ranges.y_max) / 2 ** (about.adc_bits - 1)
    wanted = model.linear(x).numpy()
    assert np.abs(found - wanted).mean() < 0.01 * step  # a value on the edge of a step may fall to either side
    found = Example(folder).product("grouped", images.flatten(2).numpy())
    step = np.max(model.grouped.ranges.y_max) / 2 ** (about.adc_bits - 1)
    assert np.abs(found - model.grouped(images).flatten(1).numpy()).mean() < 0.01 * step


@pytest.mark.parametrize(
    ("mapping", "settings"),
    [("bit_sliced", {}), ("offset", {"dac_bits": 8, "dac_slice_bits": 2}), ("offset", {"input_kappa": 1.0})],
)
def test_the_example_says_what_it_does_not_compute(tmp_path, mapping, settings):
    about = Converters(adc_bits=8, **settings)
    model = _converted(load_hardware("reram_cmo", mapping=mapping, kappa=None, converters=about))
    for layer in analog_layers(model).values():
        layer.ranges = Ranges(1.0, 2.0)
    folder = _written(tmp_path, model)
    assert read_bundle(folder).hardware["linear"].crossbar.converters == about
    with pytest.raises(NotImplementedError, match="slices of inputs, digits of weights"):
        Example(folder).product("linear", np.ones((1, 50, 1)))


def test_ranges_are_needed(tmp_path):
    model = _converted(load_hardware("reram_cmo", kappa=None, converters=Converters(adc_bits=8)))
    with pytest.raises(UserError, match=r"^layer 'linear' has converters but no ranges: call calibrate"):
        _written(tmp_path, model)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "ranges",
    [
        None,
        {"x_max": 1.0, "y_max": 0},
        {"x_max": -1, "y_max": 1},
        {"x_max": [1.0, 1.0, 1.0], "y_max": 1},
        {"x_max": "inf", "y_max": 1},
        {"x_max": True, "y_max": 1},
        {"x_max": 1.0, "y_max": 10**400},
        {"x_max": 1.0},
        {"x_max": [], "y_max": 1},
        [1.0, 1.0],
    ],
)
def test_ranges_that_can_not_be(tmp_path, ranges):
    model = _converted(load_hardware("reram_cmo", kappa=None, rows=20, converters=Converters(adc_bits=8)))
    for layer in analog_layers(model).values():
        layer.ranges = Ranges(1.0, 2.0)
    folder = _written(tmp_path, model)
    _change(folder, lambda layer: layer | {"ranges": ranges})
    with pytest.raises(UserError, match=r"^bundle '.*' is damaged"):
        read_bundle(folder)


def test_a_bundle_of_schema_2():
    """A grouped layer with a reference column in small crossbars, tied ones of two cells in parallel, codes."""
    bundle = read_bundle(SCHEMA_2 / "bundle")
    assert bundle.ranges == {} and bundle.hardware["first"].encoding.parallel == 2
    wanted = load_file(SCHEMA_2 / "effective.safetensors")
    assert set(bundle.targets) == set(wanted) == {"conv", "first", "tied", "head"}
    for name, cells in bundle.targets.items():
        encoding = bundle.hardware[name].encoding
        position = encoding.position(bundle.hardware[name].device, cells)
        found = encoding.realised(position) * bundle.scales[name]
        torch.testing.assert_close(found, wanted[name], rtol=0, atol=2e-5)


def _change(folder, change, name="grouped"):
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["layers"][name] = change(manifest["layers"][name])
    (folder / "bundle.json").write_text(json.dumps(manifest))


def _set(table, index, value):
    table[index] = value
    return table


#: File, key, change of what is there, and what is said of it.
DAMAGES = {
    "an output beyond": ("places", "grouped/columns", lambda t: _set(t, (0, 2, 0), 8), "holds what the layer does not"),
    "a channel beyond": ("places", "grouped/rows", lambda t: _set(t, (0, 0, 0), 6), "holds what the layer does not"),
    "half a row": ("places", "grouped/rows", lambda t: _set(t, (0, 0, 1), -1), "holds what the layer does not"),
    "a cell beyond": ("places", "grouped/columns", lambda t: _set(t, (0, 2, 1), 1), "holds what the layer does not"),
    "a copy beyond": ("places", "grouped/columns", lambda t: _set(t, (0, 2, 2), 2), "holds what the layer does not"),
    "overlapping": ("places", "grouped/columns", lambda t: _set(t, (0, 3), t[0, 2].clone()), "there twice, and"),
    "a missing row": ("places", "grouped/rows", lambda t: _set(t, (0, 0), -1), "not where rows and columns say"),
    "another group's": ("places", "grouped/rows", lambda t: _set(t, (0, 0, 0), 5), "not where rows and columns say"),
    "no reference": ("places", "grouped/columns", lambda t: _set(t, (0, 0), -1), "not each array has the reference"),
    "one reference twice": ("places", "grouped/columns", lambda t: _set(t, (0, 0, 2), 1), "not each array has the ref"),
    "floats": ("places", "grouped/rows", lambda t: t.float(), "is int32"),
    "a short table": ("places", "grouped/rows", lambda t: t[:, :-1], "of another number of them"),
    "no cell": ("conductances", "grouped", lambda g: _set(g, (0, 0, 0), math.nan), "not where rows and columns say"),
    "a cell too much": ("conductances", "grouped", lambda g: g.nan_to_num(10.0), "not where rows and columns say"),
    "fewer arrays": ("conductances", "grouped", lambda g: g[1:], "arrays, not"),
    "larger arrays": ("conductances", "grouped", lambda g: nn.functional.pad(g, (0, 9)), "more than its arrays of"),
    "a vector": ("conductances", "grouped", lambda g: g[0, 0], "unpack"),
    "differing copies": ("conductances", "grouped", lambda g: _set(g, (0, 0, 2), 20.0), "in parallel have different"),
    "a reference": ("conductances", "grouped", lambda g: _set(g, (0, 0, 1), 20.0), "reference cells have other"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_arrays_that_are_damaged(tmp_path, damage):
    hardware = load_hardware("reram_cmo", mapping="offset_reference", parallel=2, rows=16, columns=8)
    folder = _written(tmp_path, _converted(hardware))
    file, key, change, said = DAMAGES[damage]
    path = folder / f"{file}.safetensors"
    tensors = load_file(path)
    save_file(tensors | {key: change(tensors[key]).contiguous()}, path)
    with pytest.raises(UserError, match=rf"^bundle '.*' is damaged: layer 'grouped': .*{said}"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [8, 3, 3, 4]},
        {"shape": [10**30, 3, 3, 3]},
        {"shape": [8, -3, -3, 3]},
        {"shape": [8]},
        {"shape": [8, 3, [3], 3]},
        {"groups": 3},
        {"groups": 1},
        {"groups": 0},
        {"groups": 10**30},
        {"arrays": [1, 1, 1, 1]},
        {"arrays": [1, 1, 1]},
        {"arrays": 4},
        {"key": "linear"},
        {"key": "not there"},
    ],
)
def test_entries_that_are_damaged(tmp_path, entry):
    hardware = load_hardware("reram_cmo", mapping="offset_reference", parallel=2, rows=16, columns=8)
    folder = _written(tmp_path, _converted(hardware))
    _change(folder, lambda layer: layer | entry)
    with pytest.raises(UserError, match=r"^bundle '.*' is damaged"):
        read_bundle(folder)
