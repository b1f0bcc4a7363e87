"""The README does what it says."""

import re
import subprocess
import sys

import pytest

from tests.command_line import ROOT, parses

README = (ROOT / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _commands():
    lines = [line.split("#")[0].strip() for block in _blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("hwaware ")]


def test_there_are_commands():
    assert len(_commands()) >= 5


@pytest.mark.parametrize("command", _commands())
def test_commands_parse_against_the_command_line(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    parses(command)
    assert capsys.readouterr().out


@pytest.mark.slow
def test_plain_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _ = _blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[-3:]] == ["0", "3600", "315360000"]
    import timm
    import torch

    plain = timm.create_model("resnet18", num_classes=10)
    plain.load_state_dict(torch.load("resnet18.pth", weights_only=True))


@pytest.mark.slow
def test_evaluating_in_plain_python_prints_a_table(capsys):
    _, code = _blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "10 chips · 64 samples" in capsys.readouterr().out


def test_scripts_that_the_readme_names_are_there():
    for script in set(re.findall(r"scripts/[a-z0-9_.]+[a-z0-9]", README)):
        assert (ROOT / script).is_file(), script


def test_recipes_that_the_readme_names_are_there():
    table = README[README.index("## Recipes") : README.index("## In plain Python")]
    for name in re.findall(r"`([a-z0-9_/*]+\.yaml)`", table):
        assert list((ROOT / "recipes").glob(name)), name


@pytest.mark.slow
@pytest.mark.parametrize("script", ["readme_tables", "seen"])
def test_tables_are_those_of_the_committed_rows(script):
    command = [sys.executable, f"scripts/{script}.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
