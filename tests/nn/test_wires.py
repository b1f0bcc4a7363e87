"""Layers and chips behind wires with resistance, against nodal solutions."""

import numpy as np
import pytest
import torch
from nodal import currents_ua
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.hardware import Wires, hardware_from_plain, load_hardware
from hwaware.hardware.crossbar.places import changed, places
from hwaware.nn import convert
from hwaware.training import TrainingNoise, install_noise

WIRES = Wires(segment_ohm=2.5, driver_ohm=50.0)


def _linear(wires, mapping="differential", **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 6, bias=False)).eval()
    settings = {"rows": 12, "columns": 8, "kappa": None, **settings}
    convert(model, load_hardware("reram_cmo", mapping=mapping, wires=wires, **settings))
    return model


def _by_nodes(layer, cells, x):
    """The layer's outputs from a nodal solution of each of its arrays: 10 of its rows, and four outputs or fewer."""
    hardware = layer.hardware
    plus, minus = (g.T.numpy() for g in cells)
    width = hardware.device.g_max_us - hardware.device.g_min_us
    found = np.zeros((len(x), 6))
    for rows in (slice(0, 10), slice(10, 20), slice(20, 30)):
        for outputs in (slice(0, 4), slice(4, 6)):
            pairs = np.stack([plus[rows, outputs], minus[rows, outputs]], axis=-1)
            array = pairs.reshape(len(pairs), -1)
            current = currents_ua(array, x[:, rows].numpy(), WIRES.segment_ohm, WIRES.driver_ohm)
            found[:, outputs] += (current[:, 0::2] - current[:, 1::2]) / width
    return torch.tensor(found * layer.weight_scale().item()).float()


def test_a_chip_computes_what_a_nodal_solution_does():
    model, x = _linear(WIRES), torch.rand(5, 30)
    chip = Chip.program(model, seed=7)
    with chip.at(3600.0), torch.no_grad():
        found = model(x)
    ideal = Chip.program(_linear(None), seed=7)
    with ideal.at(3600.0) as without, torch.no_grad():
        dropped = (without(x) - found).norm()
    exact = _by_nodes(model[0], chip.conductances_at("0", 3600.0), x)
    assert (found - exact).norm() < 2e-3 * dropped and dropped > 0.01 * exact.norm()
    assert all(a.equal(b) for a, b in zip(chip.conductances_at("0", 9.0), ideal.conductances_at("0", 9.0), strict=True))


def test_exact_weights_are_seen_through_the_wires_in_every_mode():
    model, x = _linear(WIRES), torch.rand(5, 30)
    ideal = _linear(None)(x)
    with torch.no_grad():
        validated = model(x)
        with drift_free(model):
            torch.testing.assert_close(model(x), validated)
        trained = model.train()(x)
    drop = (ideal - validated).norm()
    layer = model[0]
    position = layer.hardware.encoding.window_position(layer.latent().detach() / layer.weight_scale())
    assert (validated - _by_nodes(layer, layer.hardware.encode(position), x)).norm() < 2e-3 * drop
    assert drop > 0.01 * ideal.norm() and (trained - validated).norm() < 0.05 * drop
    install_noise(model, TrainingNoise("device"))
    model(x).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0
    torch.testing.assert_close(model[0].effective_weight(), _linear(None)[0].effective_weight())


@pytest.mark.parametrize("mapping", ["offset", "offset_reference", "differential_symmetric"])
def test_other_mappings_and_copies(mapping):
    model = _linear(WIRES, mapping=mapping, parallel=2)
    ideal = _linear(None, mapping=mapping, parallel=2)
    chips = [Chip.program(one, seed=3).weight_at("0", 10.0) for one in (model, ideal)]
    assert 0.001 < (chips[0] - chips[1]).norm() / chips[1].norm() < (0.9 if mapping == "offset" else 0.2)
    nothing = Wires(segment_ohm=0.0)
    same = Chip.program(_linear(nothing, mapping=mapping, parallel=2), seed=3).weight_at("0", 10.0)
    torch.testing.assert_close(same, chips[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("shape", "groups", "settings"),
    [
        ((6, 30), 1, {"mapping": "offset_reference", "rows": 7, "columns": 4}),
        ((12, 1, 3, 3), 12, {"mapping": "offset_reference", "rows": 30, "columns": 16, "parallel": 2}),
        ((8, 6, 4, 4), 2, {"rows": 5, "columns": 6}),
    ],
)
def test_every_cell_has_a_place_of_its_own(shape, groups, settings):
    hardware = load_hardware("reram_cmo", kappa=None, **settings)
    tiling, encoding = hardware.tiling(shape, groups), hardware.encoding
    cells = [torch.rand(shape) + 1 for _ in range(encoding.cells_per_weight)]
    reference = [torch.rand_like(one) + 1 for one in hardware.reference_targets(shape, groups, torch.device("cpu"))]
    seen = []

    def change(arrays):
        seen.append(arrays)
        return 2 * arrays

    twice, references = changed(tiling, cells, reference, change)
    assert all(torch.equal(2 * a, b) for a, b in zip([*cells, *reference], [*twice, *references], strict=True))
    (arrays,) = seen
    assert (arrays > 0).sum() == tiling.n_cells == sum(one.numel() for one in (*cells, *reference))
    assert arrays.shape[0] == tiling.n_arrays and arrays.shape[1] <= tiling.rows and arrays.shape[2] <= tiling.columns
    assert places(tiling).array.max() + 1 == tiling.n_arrays


def test_wires_are_kept_with_the_hardware():
    hardware = load_hardware("reram_cmo", wires=WIRES, rows=128)
    assert hardware_from_plain(hardware.plain()) == hardware
    assert hardware.params()["wires"] == {"segment_ohm": 2.5, "driver_ohm": 50.0}
    assert "wires" not in load_hardware("reram_cmo").plain()["crossbar"]
