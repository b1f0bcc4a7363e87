"""hwaware sweep: W&B's files without W&B."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import yaml
from safetensors.torch import save_file

import hwaware.models  # noqa: F401 - registers ResNet-20
from hwaware.cli.main import main
from hwaware.commands.grid import Point, collect, read_grid
from hwaware.commands.sweep import _root
from hwaware.errors import UserError
from hwaware.results.csv import read_rows, write_rows
from tests.command_line import ROOT

SWEEPS = sorted((ROOT / "recipes" / "sweeps").glob("*.yaml"))
TINY = ROOT / "recipes" / "sweeps" / "quickstart.yaml"


def test_there_are_sweeps():
    names = {"biased_lenet5", "cifar10_crossbars", "cifar10_retention_range", "quickstart"}
    assert {path.stem for path in SWEEPS} == names


@pytest.mark.parametrize("file", SWEEPS, ids=lambda path: path.stem)
def test_the_agents_command_is_ours_and_parses(file, monkeypatch, capsys):
    """What wandb's own code makes of the file is what the offline runner runs, and the command line takes it."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    monkeypatch.chdir(ROOT)
    config = utils.load_sweep_config(str(file))
    points = read_grid(file)
    assert len(points) == len({point.name for point in points}) >= 4
    point = points[-1]
    flags = utils.create_sweep_command_args({"args": {key: {"value": v} for key, v in point.values.items()}})
    macros = {"${env}": [], "${program}": [config["program"]], "${args}": flags["args"]}
    agent = [word for part in utils.create_sweep_command(config["command"]) for word in macros.get(part, [part])]
    assert agent == ["hwaware", *point.arguments]
    assert main([*point.arguments, "--trainer.logger", "null", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["trainer"]["logger"] is None
    for key, value in point.values.items():
        chosen = printed["model"]["init_args"]
        for part in key.removeprefix("model.").split("."):
            chosen = chosen[part]
        if isinstance(chosen, dict):  # given as a text, whose keys YAML's numbers are
            chosen, value = {int(k): v for k, v in chosen.items()}, yaml.safe_load(value)
        assert chosen == value


def test_a_sweep_goes_where_its_runs_would():
    assert _root(("fit", "--config", "a.yaml")) == "runs"
    assert _root(("fit", "--trainer.default_root_dir", "/data/runs")) == "/data/runs"
    assert _root(("fit", "--trainer.default_root_dir=mine", "--model.weights", "w")) == "mine"


@pytest.mark.slow
def test_a_sweep_runs_resumes_and_gives_one_table(tmp_path, monkeypatch, capsys, forked):
    monkeypatch.chdir(ROOT)
    save_file(timm.create_model("resnet20_cifar").state_dict(), tmp_path / "random.safetensors")
    sweep = yaml.safe_load(TINY.read_text())
    sweep["parameters"]["model.retention.share"] = {"value": 0.2}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    out = tmp_path / "out"
    command = ["sweep", str(tmp_path / "two.yaml"), "--out", str(out), "--jobs", "2", "--", "--model.weights"]
    command += [str(tmp_path / "random.safetensors"), "--trainer.limit_train_batches", "2"]
    command += ["--evaluation.n_chips", "2", "--data.train_rows", "[0,128]", "--data.val_rows", "[128,168]"]
    assert main(command) == 0, (out / "share=0.2_range_fraction=0.5" / "log.txt").read_text()
    assert "2 points, 0 of them finished" in capsys.readouterr().out
    rows = read_rows(out / "rows.csv")
    assert {row.recipe for row in rows} == {"share=0.2_range_fraction=0.5", "share=0.2_range_fraction=1.0"}
    assert {json.loads(row.device_params)["range_fraction"] for row in rows} == {0.5, 1.0}
    lines = list(csv.DictReader((out / "sweep.csv").open()))
    swept = [(line["model.retention.share"], line["model.hardware.encoding.range_fraction"]) for line in lines]
    assert swept == [("0.2", "0.5")] * 2 + [("0.2", "1")] * 2  # two metrics
    assert all(float(line["worst"]) <= float(line["mean"]) and line["n_chips"] == "2" for line in lines)
    files = {path: path.stat().st_mtime_ns for path in out.glob("*/version_*/*.csv")}
    assert main(command) == 0
    assert "2 points, 2 of them finished" in capsys.readouterr().out
    assert files == {path: path.stat().st_mtime_ns for path in out.glob("*/version_*/*.csv")}
    assert main([*command, "--data.batch_size", "32"]) == 2
    assert "rows of another command" in capsys.readouterr().err


def test_a_failed_point_is_named_and_the_others_are_kept(tmp_path, monkeypatch, capsys, forked):
    def run(point: Point, out: Path) -> int:
        point.log(out).parent.mkdir(parents=True)
        if point.values["model.hardware.encoding.range_fraction"] == 1.0:
            point.log(out).write_text("many lines\nhwaware: of its own.\n")
            return 2
        (out / point.name / "version_0").mkdir()
        rows = read_rows(ROOT / "results" / "noise_sources" / "rows.csv")[:2]
        write_rows(out / point.name / "version_0" / "rows.csv", [replace(row, recipe=point.name) for row in rows])
        (out / point.name / "point.json").write_text(json.dumps(point.arguments))
        return 0

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Point, "run", run)
    assert main(["sweep", str(TINY), "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "2 of 4 points failed" in printed.err and "range_fraction=1.0/log.txt: of its own." in printed.err
    assert len(read_rows(tmp_path / "rows.csv")) == 4
    assert collect(read_grid(TINY), tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method": "bayes"}, "method 'bayes' needs W&B"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, "a needs 'value' or a list of 'values'"),
        ({"parameters": {"a": {"values": [1, 1]}}}, "two of its points"),
        ({"parameters": None}, "no table 'parameters'"),
        ({"command": ["python", "train.py", "${args}"]}, "its command must be like"),
        ({"command": ["hwaware", "fit"]}, "its command must be like"),
        ({"comand": []}, "Did you mean 'command'"),
    ],
)
def test_wrong_files(tmp_path, change, reason):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**yaml.safe_load(TINY.read_text()), **change}))
    with pytest.raises(UserError, match=reason):
        read_grid(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: file"),
        (["nowhere.yaml"], "there is no sweep file 'nowhere.yaml'"),
        ([f"{TINY.parent}/quickstar.yml"], "Did you mean 'quickstart.yaml'?"),
        ([str(TINY), "--jobs", "0"], "--jobs 0"),
        ([str(TINY), "--", "--model.retention.share=1"], "--model.retention.share is swept"),
    ],
)
def test_bad_input(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_every_point_would_fail_by_is_said_before_any_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["sweep", str(TINY), "--out", str(tmp_path), "--", "--trainer.max_epoch=1"]) == 2
    error = capsys.readouterr().err
    assert (
        error == f"hwaware: sweep file '{TINY}': trainer.max_epoch is not a key. Did you mean 'trainer.max_epochs'?\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_swept_lists_and_nothing_reach_the_command_as_they_are(tmp_path):
    file = tmp_path / "sweep.yaml"
    parameters = {"model.hardware.device.measured_s": {"values": [[1, 60.5], None]}, "model.corrected": {"value": True}}
    command = ["${env}", "hwaware", "fit", "${args}"]
    file.write_text(yaml.safe_dump({"method": "grid", "command": command, "parameters": parameters}))
    given = [[yaml.safe_load(word.partition("=")[2]) for word in point.arguments[1:]] for point in read_grid(file)]
    assert given == [[True, [1, 60.5]], [True, None]]
