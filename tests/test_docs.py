"""The documentation does what it says, and its site builds without a warning."""

from __future__ import annotations

import contextlib
import doctest
import os
import re
import subprocess
import sys
from importlib import import_module

import pytest
import yaml

import hwaware
from hwaware.commands import COMMANDS
from tests.command_line import ROOT, parses, run

PAGES = sorted((ROOT / "docs").rglob("*.md"))
_SITE = "the documentation's extra is not installed: pip install 'hwaware[docs]'"


def blocks(language: str) -> list[tuple[str, str]]:
    """``(page, code)`` of all blocks in a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    return [(page.stem, code) for page in PAGES for code in pattern.findall(page.read_text(encoding="utf-8"))]


def commands() -> list[str]:
    """Each once; what follows ``#`` or ``>`` is not of it."""
    lines = [re.split(r" +[#>] ", line)[0].strip() for _, block in blocks("bash") for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("hwaware ")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the files that the pages speak of."""
    here = tmp_path_factory.mktemp("docs")
    for name in ("recipes", "results"):
        (here / name).symlink_to(ROOT / name)
    with open(here / "mine.yaml", "w") as file, contextlib.redirect_stdout(file):
        run("device", "show", "reram_cmo")
    run("device", "simulate", "reram_cmo", "--out", here / "readings.csv", "--cells", 200)
    return here


def test_there_are_commands():
    assert len(commands()) > 30


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_commands_parse_against_the_command_line(command, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    parses(command)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page, code", blocks("pycon"))
def test_sessions_print_what_they_show(page, code):
    session = doctest.DocTestParser().get_doctest(code, {}, page, None, 0)
    assert session.examples and doctest.DocTestRunner().run(session).failed == 0


@pytest.mark.slow
def test_plain_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (page,) = (page for page in PAGES if page.name == "python.md")
    first, second = re.findall(r"<!-- test: plain python -->\n```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    exec(compile(first, "python.md", "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-3:]] == ["0", "3600", "315360000"]
    exec(compile(second, "python.md", "exec"), {})
    assert "10 chips · 64 samples" in capsys.readouterr().out
    import timm
    import torch

    plain = timm.create_model("resnet18", num_classes=10)
    plain.load_state_dict(torch.load("resnet18.pth", weights_only=True))


def test_all_commands_are_on_their_page():
    page = (ROOT / "docs" / "guides" / "commands.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(COMMANDS)


def test_all_recipes_are_on_their_page():
    page = (ROOT / "docs" / "guides" / "recipes.md").read_text()
    named = {path for glob in re.findall(r"`(recipes/[\w./*-]+)`", page) for path in ROOT.glob(glob)}
    assert named == set((ROOT / "recipes").rglob("*.yaml"))


def test_no_formatter_has_turned_an_inclusion_into_python():
    """As ruff did: ``--8 < --"examples/own_law.py"`` includes nothing, and no build says so."""
    for page in PAGES:
        included = re.findall(r"^--8.*$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert all(re.fullmatch(r'--8<-- "[\w./]+"', line) for line in included), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_files_that_pages_name_are_there(page):
    named = r"`((?:recipes|scripts|results|examples|hwaware)/[\w./*-]*\w)`"
    for name in re.findall(named, page.read_text(encoding="utf-8")):
        assert list(ROOT.glob(name)), name


def test_settings_that_pages_show_are_yaml():
    for page, code in blocks("yaml"):
        assert "--8<--" in code or isinstance(yaml.safe_load(code), dict), page


def test_all_public_names_are_in_the_api():
    pytest.importorskip("mkdocs", reason=_SITE)
    from docs_pages import PACKAGES, api_pages

    pages = api_pages()
    for name in hwaware.__all__:
        assert f"::: hwaware.{name}\n" in pages["api/index.md"]
    for package in PACKAGES:
        text = pages[f"api/{package}.md"]
        for name in import_module(f"hwaware.{package}").__all__:
            own, elsewhere = f"::: hwaware.{package}.{name}\n", f"[`{name}`][hwaware.{name}]"
            assert (own in text) != (elsewhere in text), f"{package}.{name}"


def test_results_link_to_what_is_there():
    pytest.importorskip("mkdocs", reason=_SITE)
    from docs_pages import rewritten
    from mkdocs.exceptions import PluginError

    linked: set[str] = set()
    text = "[a](rows.csv) ![b](../range_sweep/range_0s.png) [c](../../README.md#x) [d](../speed/README.md#y) [e](#z)"
    new = rewritten(text, "results/range_sweep/README.md", "results/range_sweep.md", linked)
    assert linked == {"results/range_sweep/rows.csv", "results/range_sweep/range_0s.png"}
    files = "../files/results/range_sweep"
    assert new == f"[a]({files}/rows.csv) ![b]({files}/range_0s.png) [c](../index.md) [d](speed.md#y) [e](#z)"
    with pytest.raises(PluginError, match=r"results/x/README\.md links to lost\.csv, which is not there"):
        rewritten("[a](lost.csv)", "results/x/README.md", "results/x.md", linked)


def build(config, site) -> subprocess.CompletedProcess[str]:
    """``mkdocs build`` as scripts/docs does it."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml", "nbconvert"):
        pytest.importorskip(module, reason=_SITE)
    done = build(ROOT / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page: page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")}
    assert len(pages) > 60
    for page, text in pages.items():
        assert not re.search(r"<(?:script|img|iframe)[^>]* src=\"?https?:|<link[^>]* href=\"?https?:", text), page
        assert 'class="arithmatex"' not in text, page
    assert "<math" in pages[tmp_path / "site" / "methods" / "encoding.html"]
    assert "class Creep" in re.sub(r"<[^>]+>", "", pages[tmp_path / "site" / "extend" / "law.html"])
    assert "survive_files" in pages[tmp_path / "site" / "tutorials" / "survive.html"]
    assert "Programs a converted network into a chip" in pages[tmp_path / "site" / "api" / "index.html"]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["[a](lost.md)", "[a](#lost)", "[a][hwaware.lost]", '--8<-- "examples/lost.py"'])
def test_links_to_nothing_fail(wrong, tmp_path):
    pytest.importorskip("mkdocs", reason=_SITE)
    pytest.importorskip("mkdocstrings", reason=_SITE)
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    for key in ("nav", "hooks", "theme", "extra_css"):
        del config[key]
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{wrong}\n")
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(config | {"docs_dir": str(tmp_path / "docs")}))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1 and "lost" in done.stdout + done.stderr
