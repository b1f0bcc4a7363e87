"""hwaware study: what is missing of an experiment."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from hwaware.cli.main import main
from hwaware.commands.jobs import Job, read_study
from hwaware.commands.study import _collect
from hwaware.results.csv import read_rows, write_rows
from hwaware.results.refused import Refusal, read_refused, refused_lines, write_refused
from hwaware.results.row import Row
from tests.conftest import ROOT

#: A network of digits on two chips, as it is and repaired, in seconds.
TINY = """
about: digits, in a minute
environment: {OMP_NUM_THREADS: 1}
settings:
  {data.train_rows: [0, 128], data.val_rows: [128, 168], trainer.limit_train_batches: 2, trainer.max_epochs: 1}
jobs:
  digital:
    command: fit --config recipes/quickstart_pretrain.yaml
  repaired:
    command: compare --config recipes/quickstart.yaml
    settings:
      model.weights: ${jobs.digital}/model.safetensors
      evaluation.n_chips: 2
      evaluation.ages_s: [0, 315360000]
      evaluation.networks: [base]
      evaluation.methods: [{class_path: ColumnDriftCompensation}]
chance: {classes: 10}
files: {weights.safetensors: "${jobs.digital}/model.safetensors"}
"""

#: What stands for a command that writes a file when its input is there.
SCRIPT = """
import sys, time
from pathlib import Path
source, target, seconds = sys.argv[1:4]
print("reads", source)
text = Path(source).read_text()
time.sleep(float(seconds))
with open(target, "a") as file:
    file.write(text + "x")
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "step.py").write_text(SCRIPT)
    (tmp_path / "start.txt").write_text("x")


def _study(text: str | dict, folder: str = "mine") -> Path:
    Path(folder).mkdir(exist_ok=True)
    (Path(folder) / "study.yaml").write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return Path(folder)


def _step(source: str, target: str = "${out}/y.txt", seconds: float = 0) -> dict:
    return {"command": f"python step.py {source} {target} {seconds}"}


CHAIN = {
    "about": "three steps",
    "inputs": {"start": "a text"},
    "jobs": {
        "first": _step("${inputs.start}"),
        "second": _step("${jobs.first}/y.txt"),
        "alone": _step("${inputs.start}"),
        "third": _step("${jobs.second}/y.txt"),
    },
    "files": {"end.txt": "${jobs.third}/y.txt"},
}


@pytest.mark.slow
def test_a_study_of_digits(monkeypatch, capsys, tmp_path, forked):
    monkeypatch.chdir(ROOT)
    folder, out = _study(TINY, str(tmp_path / "digits")), tmp_path / "out"
    command = ["study", str(folder), "--out", str(out)]
    assert main([*command, "--jobs", "2"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "2 jobs, 0 of them finished already" in printed and "2/2" in printed
    rows = read_rows(folder / "rows.csv")
    assert {(row.network, row.method) for row in rows} == {("base", "none"), ("base", "column_dc")}
    assert len({row.chip_seed for row in rows}) == 2 and {row.recipe for row in rows} == {"quickstart"}
    with (folder / "costs.csv").open() as file:
        assert {line["method"] for line in csv.DictReader(file)} == {"column_dc"}
    assert (folder / "summary.csv").is_file() and (folder / "report.html").is_file()
    assert (folder / "weights.safetensors").read_bytes()
    record = json.loads((out / "repaired" / "job.json").read_text())
    assert record["finished"] and "--model.weights=${jobs.digital}/model.safetensors" in record["command"]
    # Nothing runs again, and nothing changes.
    files = {path: path.stat().st_mtime_ns for path in out.glob("*/*/version_*/*")}
    assert main(command) == 0
    assert "2 jobs, 2 of them finished already" in capsys.readouterr().out
    assert files == {path: path.stat().st_mtime_ns for path in out.glob("*/*/version_*/*")}
    assert read_rows(folder / "rows.csv") == rows


def test_jobs_run_after_what_they_need_and_files_are_copied(capsys):
    folder = _study(CHAIN)
    assert main(["study", "mine", "--inputs.start", "start.txt", "--jobs", "3"]) == 0, capsys.readouterr().err
    assert (folder / "end.txt").read_text() == "xxxx"
    assert "reads" in Path("runs/studies/mine/third/log.txt").read_text()
    assert not (folder / "rows.csv").exists()


def test_dry_says_what_there_is_to_do_and_does_nothing(capsys, tmp_path):
    _study(CHAIN)
    before = sorted(tmp_path.rglob("*"))
    assert main(["study", "mine", "--dry"]) == 0
    text = capsys.readouterr().out
    assert "input start: not given (--inputs.start: a text)" in text and "4 jobs: 4 missing" in text
    assert "python step.py '${inputs.start}' runs/studies/mine/first/y.txt 0" in text
    assert "python step.py '${jobs.second}/y.txt' runs/studies/mine/third/y.txt 0" in text
    assert "missing third, after second" in text and "then: ${jobs.third}/y.txt as mine/end.txt" in text
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["study", "mine", "--inputs.start=start.txt"]) == 0
    capsys.readouterr()
    assert main(["study", "mine", "--dry", "--inputs.start=start.txt"]) == 0
    text = capsys.readouterr().out
    assert f"input start: {tmp_path / 'start.txt'}" in text and "4 jobs: 4 done" in text


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on(tmp_path, capsys):
    slow = {**CHAIN, "jobs": {**CHAIN["jobs"], "second": _step("${jobs.first}/y.txt", seconds=60)}}
    _study(slow)
    command = [sys.executable, "-m", "hwaware", "study", "mine", "--inputs.start", "start.txt", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = Path("runs/studies/mine")
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    for _ in range(600):
        done = [name for name in ("first", "alone") if Job(name, ("python",)).finished(runs)]
        if len(done) == 2 and (runs / "second" / "job.json").is_file():
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (runs / "second" / "y.txt").exists() and not (runs / "third").exists()
    _study(CHAIN)  # what was killed had made nothing, so that its command may be another one
    assert main(["study", "mine", "--inputs.start", "start.txt"]) == 0
    assert "4 jobs, 2 of them finished already" in capsys.readouterr().out
    assert Path("mine/end.txt").read_text() == "xxxx"
    assert (runs / "first" / "y.txt").read_text() == "xx"  # once: it was not run again


def test_a_command_that_is_killed_goes_on_from_its_checkpoint_and_rows(tmp_path):
    run = tmp_path / "out" / "aged" / "recipe" / "version_1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "rows.partial.csv").touch()
    fit, drift = Job("aged", ("fit", "--config", "a.yaml")), Job("aged", ("drift", "--config", "a.yaml"))
    rows = f"--evaluation.resume={run}/rows.partial.csv"
    assert fit.resume_options(tmp_path / "out") == (f"--ckpt_path={run}/checkpoints/last.ckpt", rows)
    assert drift.resume_options(tmp_path / "out") == (rows,)
    assert drift.process(tmp_path / "out", str)[-2:] == [rows, f"--trainer.default_root_dir={tmp_path}/out/aged"]
    assert Job("aged", ("sweep", "a.yaml")).resume_options(tmp_path / "out") == ()


def test_a_failing_job_is_named_and_others_run(capsys):
    jobs = {**CHAIN["jobs"], "second": _step("nowhere.txt")}
    folder = _study({**CHAIN, "jobs": {**jobs, "third": _step("${jobs.second}/y.txt")}})
    command = ["study", "mine", "--inputs.start", "start.txt"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "1 of 4 jobs failed; the first one, in runs/studies/mine/second/log.txt" in error
    assert "Not started, since they depend on it: third" in error and len(error.splitlines()) == 1
    assert "nowhere.txt" in Path("runs/studies/mine/second/log.txt").read_text()
    assert not Path("runs/studies/mine/third").exists() and Path("runs/studies/mine/alone/y.txt").is_file()
    assert not (folder / "end.txt").exists()
    _study(CHAIN)  # mended
    assert main(command) == 0
    assert "4 jobs, 2 of them finished already" in capsys.readouterr().out


def test_what_a_command_says_is_wrong_is_said(capsys):
    _study({"jobs": {"a": {"command": "device list --out ${out}", "settings": {"mapping": "offset"}}}})
    assert main(["study", "mine"]) == 2
    error = capsys.readouterr().err
    said = Path("runs/studies/mine/a/log.txt").read_text().splitlines()[-1].removeprefix("hwaware: ")
    assert said and error.rstrip().endswith(f"log.txt: {said}")


def test_what_another_command_made_is_not_taken_for_this_one(capsys):
    _study(CHAIN)
    command = ["study", "mine", "--inputs.start", "start.txt"]
    assert main(command) == 0
    _study({**CHAIN, "jobs": {**CHAIN["jobs"], "alone": _step("${inputs.start}", seconds=0.1)}})
    assert main(command) == 2
    assert "'runs/studies/mine/alone' belongs to another command" in capsys.readouterr().err
    _study(CHAIN)
    Path("other.txt").write_text("x")
    assert main([*command[:-1], "other.txt"]) == 2
    assert "'runs/studies/mine/first' belongs to another command" in capsys.readouterr().err


def test_runs_of_another_study_are_an_input(capsys):
    run = Path("runs/studies/other/finetune/recipe/version_0")
    run.mkdir(parents=True)
    (run / "y.txt").write_text("y")
    study = {"inputs": {"other": "its runs"}, "jobs": {"a": _step("${inputs.other.finetune}/y.txt")}}
    _study({**study, "files": {"end.txt": "${jobs.a}/y.txt"}})
    assert main(["study", "mine", "--inputs.other", "runs/studies/other"]) == 0, capsys.readouterr().err
    assert Path("mine/end.txt").read_text() == "yx"
    _study({**study, "jobs": {"a": _step("${inputs.other.finetunes}/y.txt")}})
    capsys.readouterr()
    assert main(["study", "mine", "--out", "new", "--inputs.other", "runs/studies/other"]) == 2
    assert "studies/other' has no run of a job 'finetunes'" in capsys.readouterr().err


def test_plots_are_drawn_when_all_jobs_are_done(capsys):
    study = {"jobs": {"a": _step("start.txt")}, "plots": ["python step.py runs/studies/mine/a/y.txt ${study}/p.txt 0"]}
    _study(study)
    assert main(["study", "mine"]) == 0
    assert Path("mine/p.txt").read_text() == "xxx"
    _study({**study, "plots": ["python step.py nowhere.txt ${study}/p.txt 0"]})
    capsys.readouterr()
    assert main(["study", "mine"]) == 2
    assert "plots.txt" in capsys.readouterr().err


def test_settings_seeds_and_what_all_jobs_share():
    file = """
settings: {data.path: DIR, trainer.precision: bf16-mixed}
shared: {small: &small {evaluation.n_chips: 2}}
jobs:
  a: {command: device list, settings: {<<: *small, evaluation.networks: [], data.path: OTHER, model.noise: null}}
  b: {command: device list, seeds: [1, 2]}
"""
    first, *others = read_study(_study(file)).jobs
    assert first.words == (
        "device", "list", "--data.path=OTHER", "--trainer.precision=bf16-mixed", "--evaluation.n_chips=2",
        "--evaluation.networks=[]", "--model.noise=null",
    )  # fmt: skip
    assert [(job.name, job.words[-1]) for job in others] == [
        ("b_1", "--seed_everything=1"), ("b_2", "--seed_everything=2")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"job": {}}, "'job' means nothing here. Did you mean 'jobs'?"),
        ({"jobs": {}}, "has no table 'jobs'"),
        ({"jobs": {"a": {"comand": "fit"}}}, "job 'a': 'comand' means nothing here. Did you mean 'command'?"),
        ({"jobs": {"a": {"settings": {}}}}, "job 'a' needs a 'command'"),
        ({"jobs": {"a": {"command": "fit --config recipes/no.yaml"}}}, "there is no recipe 'recipes/no.yaml'"),
        ({"jobs": {"a": {"command": "fitt --config a.yaml"}}}, "there is no command 'fitt'. Did you mean 'fit'?"),
        ({"jobs": {"a": {"command": "python no.py"}}}, "there is no script 'no.py'"),
        ({"jobs": {"a": {"command": "fit 'x"}}}, "is not a command"),
        ({"jobs": {"a b": _step("x")}}, "'a b' is not a valid name of a job"),
        ({"jobs": {"a": {**_step("x"), "seeds": 3}}}, "seeds 3 is not a list of whole numbers"),
        ({"jobs": {"a": {**_step("x"), "seeds": [1]}, "a_1": _step("x")}}, "two jobs are called 'a_1'"),
        ({"jobs": {"a": _step("${jobs.b}/y"), "bb": _step("x")}}, "job 'a' needs a job 'b' that is not among"),
        ({"jobs": {"a": _step("${jobs.b}"), "b": _step("${jobs.a}")}}, "depend on each other in a cycle: a, b"),
        ({"jobs": {"a": _step("${jobs.a}")}}, "in a cycle: a"),
        ({"jobs": {"a": _step("${inputs.strat}")}}, "an input 'strat' that is not among the study's. Did"),
        ({"jobs": {"a": _step("${weights}")}}, "'${weights}' is unknown"),
        ({"files": {"a": "${jobs.nobody}/a"}}, "files needs a job 'nobody'"),
        ({"chance": {"classes": "ten"}}, "is neither {classes: NUMBER} nor {no_answer: PERCENT}"),
    ],
)  # fmt: skip
def test_wrong_files(change, reason, capsys, tmp_path):
    _study({**CHAIN, "files": {}, **change})
    assert main(["study", "mine", "--inputs.start", "start.txt"]) == 2
    error = capsys.readouterr().err
    assert reason in error and len(error.splitlines()) == 1
    assert not Path("runs").exists()


def test_two_jobs_of_one_name(capsys):
    _study("jobs:\n  a: {command: device list}\n  a: {command: device list}\n")
    assert main(["study", "mine"]) == 2
    error = capsys.readouterr().err
    assert "'a' appears twice" in error and "line 2" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: folder"),
        (["mime"], "there is no study 'mime/study.yaml'. Did you mean 'mine'?"),
        (["mine"], "study 'mine' needs --inputs.start: a text."),
        (["mine", "--inputs.start", "stort.txt"], "--inputs.start: there is no 'stort.txt'. Did you mean 'start.txt'?"),
        (["mine", "--inputs.strat", "start.txt"], "takes no --inputs.strat. Did you mean 'start'?"),
        (["mine", "--inputs.start", "--dry"], "--inputs.start needs a path"),
        (["mine", "--inputs.start", "start.txt", "--jobs", "0"], "--jobs 0 must be at least 1"),
        (["mine", "--dri"], "unrecognized arguments: --dri"),
    ],
)
def test_bad_input(arguments, reason, capsys):
    _study(CHAIN)
    assert main(["study", *arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error and len(error.splitlines()) == 1
    assert not Path("runs").exists()


def test_repairs_that_a_run_did_not_install_are_collected_with_its_rows(tmp_path):
    """Until the same is measured again, and helps."""
    run, folder = tmp_path / "run", tmp_path / "mine"
    run.mkdir(), folder.mkdir()
    device = json.dumps({"g_min_us": 9.0, "g_max_us": 88.2})
    about = dict(recipe="r", model="m", network="base", dataset="d", device="reram_cmo", device_params=device)
    about |= dict(mapping="offset", method="lora", method_params="{}", age_s=3600.0, metric="top1", value=90.0)
    about |= dict(drift_free=91.0, base_digital=92.0, n_samples=100, seed=0, commit="", version="")
    rows = [Row(**about, chip_seed=2_000_000 + number) for number in range(2)]
    write_rows(run / "rows.csv", rows)
    lines = refused_lines(rows[0], [Refusal(row.chip_seed, row.age_s, 0.1, 0.2) for row in rows])
    other = replace(lines[0], model="another")
    write_refused(folder / "refused.csv", [other])
    job = SimpleNamespace(folder=lambda out: run, finished=lambda out: True)
    study = SimpleNamespace(folder=folder, jobs=[job], chance={})
    write_refused(run / "refused.csv", lines)
    _collect(study, tmp_path)
    assert read_refused(folder / "refused.csv") == [other, *lines]
    write_refused(run / "refused.csv", lines[1:])
    _collect(study, tmp_path)
    assert read_refused(folder / "refused.csv") == [other, lines[1]]
    (run / "refused.csv").unlink()
    write_refused(folder / "refused.csv", lines)
    _collect(study, tmp_path)
    assert not (folder / "refused.csv").exists()
