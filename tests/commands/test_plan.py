"""``hwaware plan``, and what takes the placement that it writes."""

from __future__ import annotations

import csv
import json
import math

import pytest
import yaml

from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.export.bundle import read_bundle
from hwaware.hardware import EncodingOptions, HardwareOptions, LayerOptions
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, pretrained_weights, run

HEADROOM = ("--model.hardware.encoding.headroom_us", "[5, 2.5]")
PLAN = "--model.hardware.plan"


def _arguments(command, folder, *options):
    common = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder]
    return [command, *common, *options]


@pytest.fixture(scope="module")
def planned(made_once):
    """The run's folder of a plan for the tiny network, one of whose layers is to stay digital."""

    def make(folder):
        budget = ("--cells", 1.5, "--digital_percent", 10, "--refine", 1)
        few = ("--chips", 1, "--validation_chips", 2, "--samples", 50)
        run(*_arguments("plan", folder, *HEADROOM, *budget, *few))

    return made_once("planned", make) / "finetune" / "version_0"


@pytest.fixture(scope="module")
def placement(planned):
    return yaml.safe_load((planned / "placement.yaml").read_text())


def _lines(file):
    with file.open() as text:
        return list(csv.DictReader(text))


@pytest.mark.slow
def test_a_plan_keeps_to_its_budget_and_says_what_it_expects(planned, placement):
    layers, front = _lines(planned / "layers.csv"), _lines(planned / "front.csv")
    assert {line["layer"] for line in layers} == {"conv1", "conv2", "linear"}
    (chosen,) = (line for line in front if line["chosen"] == "True")
    assert float(chosen["cells_ratio"]) <= 1.5 and float(chosen["digital_percent"]) <= 10
    assert [float(line["cells_ratio"]) for line in front] == sorted(float(line["cells_ratio"]) for line in front)
    assert 0 <= float(chosen["predicted"]) <= 100 and math.isnan(float(chosen["yield_percent"]))
    assert placement["network"] == "tiny_test_net" and placement["device"]["name"] == "reram_cmo"
    assert placement["encoding"]["headroom_us"] == [5, 2.5]
    assert placement["plan"]["found"]["cells_ratio"] == pytest.approx(float(chosen["cells_ratio"]), abs=1e-4)
    by_layer = {name: one for one in placement["layers"] for name in one["match"]}
    for line in layers:
        number, there = int(line["parallel"]), by_layer.get(line["layer"], {})
        assert there.get("digital", False) == (number == 0)
        assert number < 2 or there["encoding"] == {"parallel": number}
        columns = int(line["cells"]) / {"conv1": 27, "conv2": 72, "linear": 256}[line["layer"]]
        assert int(line["arrays"]) == math.ceil(columns / 512)  # of 512 rows
    assert (planned / "plots" / "plan.png").is_file() and (planned / "sensitivity.csv").is_file()


@pytest.mark.slow
def test_every_command_takes_the_placement(planned, placement, tmp_path):
    plan = (*HEADROOM, PLAN, planned / "placement.yaml")
    few = ("--evaluation.n_chips", 1, "--evaluation.ages_s", "[3600]")
    run(*_arguments("fit", tmp_path, *plan, *few))
    folder = tmp_path / "finetune" / "version_0"
    params = json.loads(read_rows(folder / "rows.csv")[0].device_params)
    found = placement["plan"]["found"]
    assert params["cells_ratio"] == pytest.approx(found["cells_ratio"], abs=1e-4)
    assert params.get("digital_percent", 0) == pytest.approx(found["digital_percent"], abs=1e-4)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    copy = config["model"]["init_args"]["hardware"]["plan"]  # the run keeps the file
    assert copy == str(folder / "devices" / "placement.yaml")
    assert yaml.safe_load(open(copy)) == placement
    run(*_arguments("drift", tmp_path, *plan, *few, "--weights", folder / "model.safetensors"))
    again = read_rows(tmp_path / "finetune" / "version_1" / "rows.csv")
    assert [row.value for row in again if row.network == "finetuned"] == [
        row.value for row in read_rows(folder / "rows.csv") if row.network == "finetuned"
    ]
    method = "[{class_path: hwaware.compensation.GlobalDriftCompensation}]"
    run(
        *_arguments("compare", tmp_path, *plan, *few, "--evaluation.methods", method, "--evaluation.networks", "[base]")
    )
    run(*_arguments("export", tmp_path, *plan, "--out", tmp_path / "bundle"))
    bundle = read_bundle(tmp_path / "bundle")
    by_layer = {name: one for one in placement["layers"] for name in one["match"]}
    for name, hardware in bundle.hardware.items():
        assert hardware.encoding.parallel == by_layer.get(name, {}).get("encoding", {}).get("parallel", 1)


@pytest.mark.slow
def test_what_was_measured_is_taken_up(planned, tmp_path):
    few = ("--chips", 1, "--validation_chips", 1)
    measured = ("--sensitivity", planned / "sensitivity.csv")
    run(*_arguments("plan", tmp_path, *HEADROOM, "--cells", 1.5, *measured, *few))
    assert _lines(tmp_path / "finetune" / "version_0" / "sensitivity.csv")[0]["layer"]
    refused = _arguments("plan", tmp_path, *HEADROOM, "--cells", 1.5, *measured, *few, "--years", 1)
    assert main([str(part) for part in refused]) == 2
    refused = _arguments("plan", tmp_path, "--model.hardware.encoding.mapping", "offset", "--cells", 2, *measured, *few)
    assert main([str(part) for part in refused]) == 2


@pytest.mark.slow
def test_layers_take_alternatives_that_suit_them(tmp_path, capsys):
    alternatives = ("--alternatives", "[{headroom_us: [1, 1]}, {mapping: offset}]")
    few = ("--chips", 1, "--validation_chips", 1, "--samples", 50)
    run(*_arguments("plan", tmp_path, *HEADROOM, "--cells", 0.9, *alternatives, *few))
    folder = tmp_path / "finetune" / "version_0"
    layers, found = _lines(folder / "layers.csv"), _lines(folder / "sensitivity.csv")
    offset = '{"mapping": "offset"}'
    assert {line["encoding"] for line in found} == {"", '{"headroom_us": [1.0, 1.0]}', offset}
    assert any(line["encoding"] == offset for line in layers)  # of pairs alone there would be more cells
    placement = yaml.safe_load((folder / "placement.yaml").read_text())
    by_layer = {name: one["encoding"] for one in placement["layers"] for name in one["match"]}
    for line in layers:
        assert json.loads(line["encoding"] or "{}").items() <= by_layer.get(line["layer"], {}).items()
    few_chips = ("--evaluation.n_chips", 1, "--evaluation.ages_s", "[3600]", "--evaluation.networks", "[base]")
    run(*_arguments("drift", tmp_path, *HEADROOM, PLAN, folder / "placement.yaml", *few_chips))
    capsys.readouterr()
    others = ("--alternatives", "[{headroom_us: [2, 2]}]", "--sensitivity", folder / "sensitivity.csv")
    refused = _arguments("plan", tmp_path, *HEADROOM, "--cells", 0.9, *others, *few)
    assert main([str(part) for part in refused]) == 2
    assert "it lacks the alternative" in capsys.readouterr().err


@pytest.mark.slow
def test_a_target(tmp_path, capsys):
    few = ("--chips", 1, "--validation_chips", 2, "--samples", 50)
    run(*_arguments("plan", tmp_path, *HEADROOM, "--points", 20, *few))
    front = _lines(tmp_path / "finetune" / "version_0" / "front.csv")
    (chosen,) = (line for line in front if line["chosen"] == "True")
    assert float(chosen["yield_percent"]) >= 95
    capsys.readouterr()
    impossible = _arguments("plan", tmp_path / "other", "--model.hardware.device.drift_std_slope_us", 1, "--points", 1)
    assert main([str(part) for part in [*impossible, *few, "--max_parallel", 1]]) == 2
    error = capsys.readouterr().err
    assert "no budget up to 16 times the cells (max_parallel=1) loses at most 1 points" in error
    assert "The nearest loses" in error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "give either a budget (--cells 1.25) or a target (--points 1)"),
        (["--cells", "1.25", "--points", "1"], "give either a budget"),
        (["--points", "0"], "points=0.0 must lie in (0, 100)"),
        (["--cells", "-1"], "cells=-1.0 must be above 0"),
        (["--cells", "0.5"], "cells=0.5 is too few even without parallel cells: give 1 or more"),
        (["--cells", "0.5", "--digital_percent", "10"], "give 0.9 or more, or keep more of the weights digital"),
        (["--cells", "1.25", "--digital_percent", "101"], "digital_percent=101.0 must lie in [0, 100]"),
        (["--cells", "1.25", "--validation_samples", "0"], "validation_samples=0 must be at least 1"),
        (["--cells", "1.25", "--validation_chips", "10000000000"], "chips=10000000000 must be at most 1,000,000"),
        (["--cells", "1.25", "--samples", "1000000"], "1000000 calibration images were requested"),
        (["--cells", "1.25", "--max_parallel", "0"], "max_parallel=0 must be at least 1"),
        (["--cells", "1.25", "--alternatives", "[{parallel: 2}]"], "parallel is chosen by the plan"),
        (["--cells", "1.25", "--alternatives", "[{}]"], "one of them is empty"),
        (["--cells", "1.25", "--alternatives", "[{mappin: offset}]"], "mappin"),
        (["--cells", "1.25", "--alternatives", "[{headroom_us: [60, 60]}]"], "nothing is left for weights"),
        (["--cells", "1.25", "--years", "-1"], "age_s=-31536000.0"),
        (["--cells", "1.25", "--sensitivity", "nowhere.csv"], "there is no file 'nowhere.csv'"),
        (["--cells", "1.25", "--model.hardware.encoding.headroom_us", "[60, 60]"], "nothing is left for weights"),
    ],
)
def test_bad_input(tmp_path, capsys, options, reason):
    assert main([str(part) for part in _arguments("plan", tmp_path, *options)]) == 2
    assert reason in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


# The file itself.

FILE = {
    "network": "tiny",
    "device": None,
    "encoding": None,
    "layers": [{"match": ["conv1"], "encoding": {"parallel": 4}}, {"match": ["linear"], "digital": True}],
    "plan": {},
}


def _file(tmp_path, device="reram_cmo", **other):
    hardware = HardwareOptions({"name": device}).placement.default.plain()
    content = json.loads(json.dumps({**FILE, "device": hardware["device"], "encoding": hardware["encoding"], **other}))
    path = tmp_path / "placement.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_file_is_what_a_recipe_could_say(tmp_path):
    said = HardwareOptions(
        {"name": "reram_cmo"},
        layers=[LayerOptions(["conv1"], encoding=EncodingOptions(parallel=4)), LayerOptions(["linear"], digital=True)],
    )
    assert HardwareOptions({"name": "reram_cmo"}, plan=_file(tmp_path)).placement == said.placement


def test_another_device_is_said(tmp_path):
    path = _file(tmp_path)
    with pytest.warns(UserWarning, match=r"planned for another device \(differing: drift_std_slope_us\)"):
        hot = HardwareOptions({"name": "reram_cmo", "drift_std_slope_us": 0.1}, plan=path)
    assert hot.placement.rules[0].hardware.device.drift_std_slope_us == 0.1


def test_another_encoding_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"planned with encoding\.mapping differential, but the recipe has offset"):
        HardwareOptions({"name": "reram_cmo"}, EncodingOptions(mapping="offset"), plan=_file(tmp_path))


def test_another_network_is_refused(tmp_path, capsys):
    path = _file(tmp_path, layers=[{"match": ["blocks.0.conv"], "encoding": {"parallel": 4}}])
    assert main([str(part) for part in _arguments("drift", tmp_path / "runs", PLAN, path)]) == 2
    assert "placement.yaml' (planned for tiny): 'blocks.0.conv' matches no layer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"layers": [{"match": ["conv1"], "encoding": {"paralel": 4}}]}, "unexpected keyword argument 'paralel'"),
        ({"layers": [{"match": ["conv1"], "digitall": True}]}, "unexpected keyword argument 'digitall'"),
        ({"layers": [{"match": 3}]}, "entry 1: match=3 must be a list of layer names"),
        ({"layers": [{"match": ["conv1"], "encoding": 4}]}, "encoding=4 is not a table of keys and values"),
        ({"layers": [{"match": ["conv1"], "device": 3}]}, "device=3 is not a table"),
        ({"layers": [{"match": ["conv1"], "digital": "yes"}]}, "digital='yes' must be true or false"),
        ({"layers": {"conv1": 4}}, "layers does not have the form that hwaware plan writes"),
        ({"extra": 1}, "has no 'extra'"),
    ],
)
def test_files_of_another_form(tmp_path, other, reason):
    with pytest.raises(UserError, match=reason):
        HardwareOptions({"name": "reram_cmo"}, plan=_file(tmp_path, **other))


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="there is no file"):
        HardwareOptions({"name": "reram_cmo"}, plan=str(tmp_path / "none.yaml"))
    (tmp_path / "text.yaml").write_text("network: tiny\n")
    with pytest.raises(UserError, match="has no 'device'"):
        HardwareOptions({"name": "reram_cmo"}, plan=str(tmp_path / "text.yaml"))
    (tmp_path / "bad.yaml").write_text("network: [\n")
    with pytest.raises(UserError, match="is not YAML"):
        HardwareOptions({"name": "reram_cmo"}, plan=str(tmp_path / "bad.yaml"))
    with pytest.raises(UserError, match=r"and hardware\.others_digital both set the hardware of layers: drop one"):
        HardwareOptions({"name": "reram_cmo"}, others_digital=True, plan=_file(tmp_path))
