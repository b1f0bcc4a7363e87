"""Every example does what its docstring says, as typed there."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwaware.results.csv import read_rows
from tests.command_line import ROOT, run

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def commands(example: Path) -> list[list[str]]:
    """Those of its docstring, which are indented; a backslash goes on in the next line."""
    text = ast.get_docstring(ast.parse(example.read_text())).replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("    ")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A copy of the folder as the working directory; its modules are forgotten afterwards."""
    shutil.copytree(ROOT / "examples", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def done(command: list[str], capsys) -> str:
    """What it prints."""
    program, *arguments = command
    if program == "hwaware":
        run(*arguments)
    elif arguments[0] == "-c":  # in a process that knows nothing of what was done before
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )
        assert process.returncode == 0, process.stderr
        print(process.stdout)
    else:
        assert program == "python"
        runpy.run_path(arguments[0], run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_is_short_and_says_how_to_run_it(example):
    assert len(example.read_text().splitlines()) < 80
    assert {command[0] for command in commands(example)} <= {"hwaware", "python"} and commands(example)


def rows(folder: Path, recipe: str) -> list:
    return read_rows(folder / "runs" / recipe / "version_0" / "rows.csv")


@pytest.mark.slow
def test_own_task(here, capsys):
    for command in commands(here / "own_task.py"):
        done(command, capsys)
    found = rows(here, "in_cells")
    assert {(row.model, row.dataset, row.metric, row.n_samples) for row in found} == {
        ("DigitQuestions", "digits", metric, 359) for metric in ("all_right", "right")
    }
    assert {row.network for row in found} == {"base", "finetuned"}
    assert min(row.drift_free for row in found) > 65  # guessing answers all three right once in eight


@pytest.mark.slow
def test_own_network(here, capsys):
    """Its name in timm is enough, in every part of the command; what the second run freezes stays."""
    from safetensors.torch import load_file

    for command in commands(here / "own_network.py"):
        done(command, capsys)
    found = rows(here, "in_cells")
    assert {(row.model, row.network) for row in found} == {("small_digits", "base"), ("small_digits", "finetuned")}
    assert min(row.base_digital for row in found) > 80
    digital, in_cells = (
        load_file(here / f"runs/{name}/version_0/model.safetensors") for name in ("digital", "in_cells")
    )
    assert digital["first.weight"].shape == (24, 1, 3, 3)
    assert digital["first.bias"].equal(in_cells["first.bias"]) and not digital["head.bias"].equal(in_cells["head.bias"])
    assert (digital["first.weight"] - in_cells["first.weight"]).abs().max() < 1e-6  # through the cell's curve, and back


def test_own_data(here, capsys):
    (command,) = commands(here / "own_data.py")
    done(command, capsys)
    run("test", *command[2:], "--model.weights", here / "runs/stripes/version_0/model.safetensors")
    assert "test/top1" in capsys.readouterr().out


def test_own_law(here, capsys):
    show, run_it = commands(here / "own_law.py")
    assert "loss_per_decade" in done(show, capsys)
    printed = [line.split() for line in done(run_it, capsys).splitlines()]
    new, hour, old = (float(words[-2]) for words in printed if words and words[-1] == "%")
    assert 0 < new < hour < old < 50


@pytest.mark.slow
def test_own_repair(here, capsys):
    fit, export, read = commands(here / "own_repair.py")
    done(fit, capsys)
    told = done(export, capsys)
    aged, repaired = (float(re.search(rf"{line} +│ +([\d.]+)", told)[1]) for line in ("at 10 years", "mean_shift"))
    assert repaired > aged + 2
    assert done(read, capsys).strip() == "MeanShift(images=64, chips=4)"


def test_own_encoding(here, capsys):
    """Two cells instead of one: the error falls by the square root of two."""
    (command,) = commands(here / "own_encoding.py")
    lines = dict(line.split(": outputs off by ") for line in done(command, capsys).splitlines())
    errors = {name: float(text.removesuffix(" %")) for name, text in lines.items()}
    assert errors["offset"] / errors["own_encoding.TWICE"] == pytest.approx(2**0.5, rel=0.15)


@pytest.mark.slow
def test_read_bundle(here, capsys):
    """Converters of 8 bits change outputs by a few percent, which lie far within their range."""
    fit, export, read = commands(here / "read_bundle.py")
    done(fit, capsys)
    assert "reloaded" in done(export, capsys)
    lines = done(read, capsys).splitlines()
    assert [line.split(":")[0] for line in lines] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert all(0 < float(line.split()[-2]) < 10 for line in lines)
    imported = [line for line in (here / "read_bundle.py").read_text().splitlines() if "import " in line]
    assert not any(name in line for line in imported for name in ("torch", "hwaware"))
