"""Constants that readings leave open, and that chips draw."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import yaml
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import held_by
from hwaware.evaluation.law import open_us
from hwaware.hardware import Hardware, load_device, load_hardware
from hwaware.hardware.devices import device_file, device_from_dict, device_to_dict
from hwaware.hardware.devices.bootstrap import Bootstrap, device_of_chip
from hwaware.nn import convert

YEAR_S = 31_536_000.0
NAMES = ("drift_mean_slope_us", "drift_std_slope_us")
VALUES = ((-0.05, 0.03), (-0.09, 0.04), (-0.13, 0.05))


@pytest.fixture
def device():
    return load_device("reram_cmo", bootstrap=Bootstrap(NAMES, VALUES))


@pytest.fixture
def file(device, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(device_file(device))
    return path


def test_a_device_file_keeps_it_a_fit_a_line(device, file):
    text = file.read_text()
    assert text.endswith(
        "bootstrap:\n  names: [drift_mean_slope_us, drift_std_slope_us]\n  values:\n"
        "  - [-0.05, 0.03]\n  - [-0.09, 0.04]\n  - [-0.13, 0.05]\n"
    )
    assert load_device(str(file)) == device
    assert device_from_dict(json.loads(json.dumps(device_to_dict(device)))) == device


def test_rows_do_not_have_it(device):
    assert device.params() == load_device("reram_cmo").params()
    assert "bootstrap" not in device_to_dict(load_device("reram_cmo"))


def test_what_a_chip_draws_follows_from_its_seed_and_the_device(device):
    drawn = [device_of_chip(device, seed) for seed in range(200)]
    pairs = [tuple(getattr(one, name) for name in NAMES) for one in drawn]
    assert set(pairs) == set(VALUES) and all(40 < pairs.count(one) < 95 for one in VALUES)
    assert drawn[7] == device_of_chip(device, 7) and drawn[7].bootstrap is None
    plain = load_device("reram_cmo")
    assert device_of_chip(plain, 7) is plain


def test_constants_of_lists_and_of_lists_of_lists():
    wan, pcm = load_device("reram_wan2022"), load_device("pcm")
    drawn = Bootstrap(("std_us[1][2]",), ((-40.0,), (-60.0,))).device(wan, 1)
    assert drawn.std_us[1][2] == -60.0 and drawn.std_us[1][:2] == wan.std_us[1][:2] and drawn.std_us[0] == wan.std_us[0]
    others = [Bootstrap(("exponent_mean[1]", "start_s"), ((0.03, 10.0), (0.02, 20.0))).device(pcm, n) for n in (0, 1)]
    assert Bootstrap.of(others) == Bootstrap(("exponent_mean[1]", "start_s"), ((0.03, 10.0), (0.02, 20.0)))
    assert Bootstrap.of([pcm, pcm]) is None


def test_a_constant_that_is_set_otherwise_is_not_drawn(file):
    device = load_device(str(file), drift_mean_slope_us=-0.2)
    assert device.bootstrap == Bootstrap(NAMES[1:], tuple(one[1:] for one in VALUES))
    assert device_of_chip(device, 3).drift_mean_slope_us == -0.2
    both = load_hardware(str(file), drift_mean_slope_us=-0.2, drift_std_slope_us=0.01).device
    assert both.bootstrap is None and load_device(str(file), clamp="zero").bootstrap == Bootstrap(NAMES, VALUES)


@pytest.mark.parametrize(
    ("bootstrap", "reason"),
    [
        (
            {"names": ["drift_mean_slop_us"], "values": [[1], [2]]},
            "has no number 'drift_mean_slop_us' (bootstrap). Did",
        ),
        ({"names": ["clamp"], "values": [[1], [2]]}, "has no number 'clamp' (bootstrap)"),
        ({"names": ["drift_std_slope_us"], "values": [[0.1], [-0.1]]}, "bootstrap.values[1]: drift_std_slope_us=-0.1"),
        (
            {"names": ["drift_std_slope_us"], "values": [[0.1], [0.1, 2]]},
            "bootstrap.values[1]=[0.1, 2.0] must be 1 fin",
        ),
        ({"names": ["drift_std_slope_us"], "values": [[0.1], [".inf"]]}, "bootstrap.values[1]=[inf] must be 1 finite"),
        ({"names": ["drift_std_slope_us"], "values": [[0.1]]}, "bootstrap.values has 1 fits: at least 2"),
        ({"names": [], "values": [[], []]}, "bootstrap.names=[] must name at least one constant, each once"),
        (
            {"names": ["drift_std_slope_us"] * 2, "values": [[0.1, 0.1]] * 2},
            "must name at least one constant, each once",
        ),
        ({"names": ["drift_std_slope_us"], "value": [[0.1], [0.2]]}, "has no 'value'. Did you mean 'values'?"),
        ({"names": ["drift_std_slope_us"]}, "bootstrap of device 'mine' lacks 'values'"),
        ([1, 2], "is not a table of keys and values"),
        ({"names": ["drift_std_slope_us"], "values": [["a"], [1]]}, "'a' is not a number"),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_is_read(tmp_path, bootstrap, reason):
    values = device_to_dict(load_device("reram_cmo")) | {"name": "mine", "bootstrap": bootstrap}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values).replace("'.inf'", ".inf"))
    with pytest.raises(UserError) as caught:
        load_device(str(tmp_path / "mine.yaml"))
    assert reason in str(caught.value) and len(str(caught.value).splitlines()) <= 2


def test_a_chip_has_one_set_of_constants_for_all_its_cells(device):
    """By the mean shift of many cells that a window does not cut off."""
    model = nn.Sequential(nn.Linear(80, 80, bias=False), nn.Linear(80, 80, bias=False))
    model[0].weight.data.uniform_(-0.5, 0.5)[0, 0] = 1.0
    model[1].weight.data.uniform_(-0.5, 0.5)[0, 0] = 1.0
    free = load_device("reram_cmo", clamp="zero", bootstrap=device.bootstrap)
    convert(model, Hardware(device=free, encoding=load_hardware("reram_cmo", mapping="offset").encoding))
    slopes = set()
    for seed in range(14):
        chip, plain = Chip.program(model, seed, drawn=True), Chip.program(model, seed)
        slope = device_of_chip(free, seed).drift_mean_slope_us
        for name in ("0", "1"):
            (aged,), (new,) = (chip.conductances_at(name, age_s) for age_s in (YEAR_S, 0.0))
            shift = (aged - new).mean().item()
            assert shift == pytest.approx(slope * torch.tensor(YEAR_S).log().item(), abs=0.08)
            (same,) = plain.conductances_at(name, 0.0)
            assert torch.equal(same, new)  # just written, nothing that is open counts
        slopes.add(slope)
    assert slopes == {-0.05, -0.09, -0.13}
    assert json.loads(held_by(model, True)) == json.loads(held_by(model)) | {"drawn_constants": True}
    before = copy.deepcopy(model.state_dict())
    with Chip.program(model, 3, drawn=True).at(YEAR_S):
        pass
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_device_that_leaves_nothing_open_draws_nothing():
    model = nn.Sequential(nn.Linear(8, 8))
    convert(model, load_hardware("reram_cmo"))
    one, other = (Chip.program(model, 3, drawn).weight_at("0", YEAR_S) for drawn in (False, True))
    assert torch.equal(one, other)


def test_the_band_is_the_spread_of_drawn_laws(device):
    targets = torch.tensor([30.0, 60.0], dtype=torch.float64)
    mean, std = open_us(device, targets, 1e6)
    each = [device.bootstrap.device(device, number).cell_moments(targets, 1e6) for number in range(3)]
    expected = 1.959964 * torch.stack([one[0] for one in each]).std(0)
    assert mean == pytest.approx(expected.numpy()) and (std > 0).all()
    assert open_us(load_device("reram_cmo"), targets, 1e6) is None
