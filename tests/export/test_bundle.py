import json
import math
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.cli.main import main
from hwaware.compensation import BnStats, ChannelAffine, Level, OfflineCompensation, Schedule, Timetable, VeraPlus
from hwaware.compensation.costs import Cost
from hwaware.errors import UserError
from hwaware.export.bundle import PlannedRepair, read_bundle, write_bundle
from hwaware.hardware import Placement, load_hardware
from hwaware.hardware.encoding import MAPPINGS
from hwaware.nn import analog_layers, convert
from tests.command_line import FINETUNE, pretrained_weights, run

AGE_S = 315_360_000.0


class Net(nn.Module):
    """Layers larger than a crossbar, grouped and depthwise ones, batch norm, and a layer that stays digital."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.wide = nn.Linear(8 * 100, 600)
        self.head = nn.Linear(600, 3)

    def forward(self, x):
        x = self.depthwise(self.grouped(self.norm(self.conv(x)).relu()).relu()).relu()
        return self.head(self.wide(x.flatten(1)).relu())


def _converted(hardware, *digital):
    torch.manual_seed(1)
    model = Net().eval()
    model.norm.running_mean.uniform_(-0.1, 0.1)
    convert(model, Placement(hardware, digital=digital))
    return model


SLICED = ({}, {"scale": "channel"}, {"scale": "fixed", "fraction_bits": 9, "slice_bits": 1})


@pytest.mark.parametrize(
    ("mapping", "settings"),
    [
        *product(MAPPINGS, [{}, {"scale": "channel", "kappa": None}, {"range_fraction": 0.5}]),
        *(("bit_sliced", {"kappa": None, **scale}) for scale in SLICED),
    ],
)
def test_a_reloaded_bundle_is_the_same_chip(tmp_path, mapping, settings):
    hardware = load_hardware("reram_cmo", mapping=mapping, **settings)
    model, other = _converted(hardware, "head"), Net().eval()
    bundle = read_bundle(write_bundle(tmp_path / "bundle", model, "net"))
    bundle.install(other)
    assert set(bundle.hardware.values()) == {hardware} and list(analog_layers(other)) == list(analog_layers(model))
    x = torch.randn(4, 3, 12, 12)
    with torch.no_grad(), drift_free(model), drift_free(other):
        torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-5)
    chips = [Chip.program(net, 2_000_000) for net in (model, other)]
    with torch.no_grad(), chips[0].at(AGE_S), chips[1].at(AGE_S):
        torch.testing.assert_close(other(x), model(x), rtol=1e-3, atol=1e-4)


def test_tied_weights_and_second_names_are_held_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.c = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b, self.c.weight = self.a, self.a.weight

        def forward(self, x):
            return self.c(self.b(self.a(x)))

    device = load_hardware("reram_cmo")
    torch.manual_seed(0)
    model, other = Tied().eval(), Tied().eval()
    convert(model, device)
    bundle = read_bundle(write_bundle(tmp_path / "bundle", model, "tied"))
    assert sorted(bundle.digital) == ["a.bias", "b.bias", "c.bias"]
    bundle.install(other)
    assert other.c.weight is other.a.weight
    torch.testing.assert_close(other.a.weight, model.a.weight)
    with pytest.raises(UserError, match="no analog layer: call convert"):
        write_bundle(tmp_path / "other", Tied(), "tied")


def test_arrays_have_their_size_and_conductances_their_window(tmp_path):
    hardware = load_hardware("reram_cmo", mapping="differential")
    folder = write_bundle(tmp_path / "bundle", _converted(hardware), "net")
    layers = json.loads((folder / "bundle.json").read_text())["layers"]
    cells = load_file(folder / "conductances.safetensors")
    assert layers["wide"]["arrays"] == [1, 2, 3, 1] and list(cells["wide"].shape) == [6, 400, 512]
    assert layers["depthwise"]["arrays"] == [1, 1, 1, 1] and list(cells["depthwise"].shape) == [1, 72, 16]
    assert cells["depthwise"].isfinite().sum() == 2 * 72
    for targets in read_bundle(folder).targets.values():
        for cell in targets:
            assert hardware.device.g_min_us <= cell.min() and cell.max() <= hardware.device.g_max_us + 1e-4


@pytest.mark.parametrize("method", [VeraPlus(rank=2), ChannelAffine(bits=4), BnStats()])
def test_a_repair_is_the_same_after_reloading(tmp_path, method):
    device = load_hardware("reram_cmo", mapping="offset")
    model, draw = _converted(device), torch.Generator().manual_seed(0)
    if isinstance(method, BnStats):
        state = {"norm/running_mean": torch.randn(8, generator=draw).half().float(), "norm/running_var": torch.ones(8)}
    else:
        what = ("b", "d") if method.name == "vera_plus" else ("gain", "shift")
        lengths = {"d": lambda layer: method.rows}
        state = {
            f"{name}/{one}": 0.1 * torch.randn(lengths.get(one, lambda layer: len(layer.weight))(layer), generator=draw)
            for name, layer in analog_layers(model).items()
            for one in what
        }
    timetable = Timetable((Level(0.0, None, 91.0, 0.1, True), Level(60.0, state, 90.0, 0.2, False)), 91.5)
    repair = PlannedRepair(method, timetable, Cost(bytes_stored=10.0, extra_macs_percent=1.0), Schedule(98.0))
    (found,) = read_bundle(write_bundle(tmp_path / "b", model, "net", [repair])).repairs
    assert found.method == method and found.cost == repair.cost and found.schedule == repair.schedule
    assert [(level.start_s, level.mean, level.reached) for level in found.timetable.levels] == [
        (0.0, 91.0, True), (60.0, 90.0, False),
    ]  # fmt: skip
    assert found.timetable.drift_free == 91.5
    x = torch.randn(4, 3, 12, 12)
    with torch.no_grad(), method.installed(model, state):
        wanted = model(x)
    chip = Chip.program(model, 2_000_000)
    with torch.no_grad():
        exact = model(x)
        with found(chip, 61.0):
            assert torch.equal(model(x), wanted)
        with found(chip, 59.0):  # no repair yet
            assert torch.equal(model(x), exact)


@dataclass(frozen=True)
class OwnShift(ChannelAffine):
    """A repair of one's own."""

    name: ClassVar[str] = "own_shift"


def test_a_repair_of_ones_own_is_read_back_where_its_module_was_imported(tmp_path):
    """A downloaded file may name any module: reading it imports none."""
    hardware = load_hardware("reram_cmo", mapping="offset")
    timetable = Timetable((Level(0.0, None, 91.0, 0.1, True),), 91.5)
    repair = PlannedRepair(OwnShift(steps=7), timetable, Cost(bytes_stored=1.0, extra_macs_percent=0.0), Schedule())
    folder = write_bundle(tmp_path / "b", _converted(hardware), "net", [repair])
    assert read_bundle(folder).repairs[0].method == OwnShift(steps=7)
    manifest = (folder / "bundle.json").read_text()
    assert f'"{__name__}.OwnShift"' in manifest
    known = set(sys.modules)
    for name, reason in (("antigravity.Shift", "Import its module first"), ("VeraPlusPlus", "Did you mean 'VeraPlus'")):
        (folder / "bundle.json").write_text(manifest.replace(f"{__name__}.OwnShift", name))
        with pytest.raises(UserError, match=f"^bundle '.*b': there is no method '{name}'. {reason}"):
            read_bundle(folder)
    assert set(sys.modules) == known


@dataclass(frozen=True)
class Part:
    """A part of a repair's settings."""

    share: float = 0.5


@dataclass(frozen=True)
class OwnParts(OfflineCompensation):
    """A repair whose settings and values are of many kinds."""

    name: ClassVar[str] = "own_parts"

    layers: tuple[str, ...] = ("conv",)
    part: Part = Part()
    limit: float = math.inf
    known: int = field(init=False, default=1)

    @property
    def params(self):
        return json.dumps({"layers": len(self.layers)})  # for rows

    def fit(self, model, ages_s, data, seed, start):
        return {}

    def installed(self, model, state):
        return nullcontext()

    def cost(self, size, levels):
        return Cost(bytes_stored=1.0, extra_macs_percent=0.0)


def _with(method, state, **numbers):
    timetable = Timetable((Level(0.0, None, 91.0, 0.1, True), Level(60.0, state, 90.0, 0.2, True)), **numbers)
    return PlannedRepair(method, timetable, Cost(bytes_stored=1.0, extra_macs_percent=0.0), Schedule())


def test_an_own_repair_comes_back_with_settings_and_values_of_any_kind(tmp_path):
    method = OwnParts(layers=("conv", "head"), part=Part(0.25))
    state = {"index": torch.tensor([70_000]), "mask": torch.tensor([True]), "gain": torch.tensor([0.5])}
    folder = write_bundle(tmp_path / "b", _converted(load_hardware("reram_cmo")), "net", [_with(method, state)])
    (found,) = read_bundle(folder).repairs
    assert found.method == method
    assert math.isnan(found.timetable.drift_free)  # not known
    assert all(torch.equal(found.timetable.levels[1].state[key], value) for key, value in state.items())
    json.loads((folder / "bundle.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_threshold_that_is_infinite_is_kept(tmp_path):
    """As that of a reader which answers every question."""
    model, other = _converted(load_hardware("reram_cmo")), Net().eval()
    for network, threshold in ((model, -math.inf), (other, None)):
        network.config = SimpleNamespace(null_threshold=threshold)
    bundle = read_bundle(write_bundle(tmp_path / "b", model, "net"))
    bundle.install(other)
    assert other.config.null_threshold == -math.inf


@dataclass(frozen=True)
class Unkept(OwnParts):
    """A repair that no bundle can keep."""

    what: Any = None


class Plain(OwnParts):
    """A repair with what its dataclass knows nothing of."""

    def __init__(self, width):
        super().__init__()
        object.__setattr__(self, "width", width)


@pytest.mark.parametrize(
    ("method", "state", "reason"),
    [
        (
            Unkept(what=torch.ones(1)),
            {},
            "setting what of repair 'tests.export.test_bundle.Unkept' is of the type Tensor",
        ),
        (Plain(3), {}, f"repair '{__name__}.Plain' can't be rebuilt from its own settings"),
        (
            OwnParts(),
            {"gain": torch.tensor([1e6])},
            "own_parts: 'gain' reaches 1e[+]06, which half precision can't represent",
        ),
    ],
)
def test_what_could_not_be_read_back_is_not_written(method, state, reason, tmp_path):
    with pytest.raises(UserError, match=f"^{reason}"):
        write_bundle(tmp_path / "b", _converted(load_hardware("reram_cmo")), "net", [_with(method, state)])
    assert not any(tmp_path.iterdir())


def test_bundles_that_are_not(tmp_path):
    device = load_hardware("reram_cmo")
    model = _converted(device)
    folder = write_bundle(tmp_path / "bundle", model, "net")
    with pytest.raises(UserError, match="exists already"):
        write_bundle(folder, model, "net")
    with pytest.raises(UserError, match="is not a bundle"):
        read_bundle(tmp_path)
    with pytest.raises(UserError, match=r"the bundle: 'conv' matches no layer"):
        read_bundle(folder).install(nn.Sequential(nn.Linear(3, 3)))
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(manifest | {"version": 4}))
    with pytest.raises(UserError, match=r"' has schema hwaware-bundle 4; this package reads hwaware-bundle 1 to 3"):
        read_bundle(folder)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    layers = manifest["layers"] | {"conv": manifest["layers"]["conv"] | {"arrays": []}}
    for damaged in (manifest | {"layers": layers}, manifest | {"layers": []}, []):
        (folder / "bundle.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="is damaged"):
            read_bundle(folder)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    for name in ("conductances", "places"):
        file = folder / f"{name}.safetensors"
        content = file.read_bytes()
        file.write_bytes(content[:1000])
        with pytest.raises(UserError, match="is damaged"):
            read_bundle(folder)
        file.write_bytes(content)
    read_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("file", "value", "said"),
    [
        ("conductances", torch.inf, "has targets that are not conductances"),
        ("conductances", -1.0, "has targets that are not conductances"),
        ("digital", torch.nan, "that is not finite"),
    ],
)
def test_values_that_can_not_be(file, value, said, tmp_path):
    folder = write_bundle(tmp_path / "bundle", _converted(load_hardware("reram_cmo")), "net")
    path = folder / f"{file}.safetensors"
    for name, tensor in load_file(path).items():
        if not tensor.is_floating_point():
            continue
        save_file({**load_file(path), name: torch.where(tensor.isnan(), tensor, value)}, path)
        with pytest.raises(UserError, match=f"^bundle .*: .*{said}"):
            read_bundle(folder)
        break


def test_the_command_exports_what_it_reads_back(tmp_path, capsys):
    arguments = [
        *("export", "--config", FINETUNE, "--model.weights", str(pretrained_weights()), "--out", tmp_path / "bundle"),
        *("--evaluation.schedule.per_decade", 1, "--evaluation.schedule.youngest_s", 1e8),
        *("--evaluation.schedule.instances", 2, "--evaluation.schedule.target_percent", 99.9),
        *(
            "--evaluation.methods",
            "[{class_path: VeraPlus, init_args: {steps: 30}}, "
            "{class_path: VeraPlus, init_args: {steps: 30, constant: false}}, {class_path: Dora}]",
        ),
        *("--trainer.default_root_dir", tmp_path / "runs"),
    ]
    run(*arguments)
    out = capsys.readouterr().out
    assert "left out, since they are fitted on each chip in the field: dora" in out and "reloaded" in out
    assert "the same with vera_plus_constant" in out and "the same with vera_plus " in out
    for repair, constant in zip(read_bundle(tmp_path / "bundle").repairs, (True, False), strict=True):
        assert repair.method.name == "vera_plus" and repair.method.constant == constant
        assert repair.timetable.n_sets >= 1 and repair.cost.bytes_stored > 0
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "bundle.json", "conductances.safetensors", "digital.safetensors", "places.safetensors", "repairs.safetensors",
    ]  # fmt: skip
    assert not (tmp_path / "runs").exists()
    assert main([str(argument) for argument in arguments]) == 2
    assert "exists already" in capsys.readouterr().err


def test_bad_input(tmp_path, capsys):
    base = ["export", "--config", FINETUNE, "--model.weights", str(pretrained_weights())]
    assert main(base) == 2
    assert "give --out" in capsys.readouterr().err
    methods = ["--evaluation.methods", "[{class_path: Dora}]"]
    assert main([*base, "--out", str(tmp_path / "bundle"), *methods]) == 2
    assert "dora is fitted on each chip in the field" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
