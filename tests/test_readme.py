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
def test_plain_python_runs(capsys):
    (code,) = _blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "torch.Size([2, 1000])" in capsys.readouterr().out


def test_it_is_short():
    assert len(README.splitlines()) <= 110


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#([\w-]+))?\)", README)
    assert len(links) > 10
    for path, anchor in links:
        assert (ROOT / path).is_file(), path
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), flags=re.MULTILINE) if anchor else ()
        assert not anchor or anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def test_scripts_that_the_readme_names_are_there():
    for script in set(re.findall(r"scripts/[a-z0-9_.]+[a-z0-9]", README)):
        assert (ROOT / script).is_file(), script


@pytest.mark.slow
@pytest.mark.parametrize("script", ["readme_tables", "seen"])
def test_tables_are_those_of_the_committed_rows(script):
    command = [sys.executable, f"scripts/{script}.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
