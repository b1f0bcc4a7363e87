"""The studies of results: each has its page, and jobs that the command line understands."""

import contextlib
import re
from itertools import chain

import pytest

from hwaware.cli.main import main
from hwaware.commands.jobs import read_study
from tests.conftest import ROOT

RESULTS = ROOT / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob("*/study.yaml"))
PAGES = sorted(RESULTS.glob("**/README.md"))


def test_every_folder_is_a_study_with_a_page_that_the_index_links():
    assert STUDIES == sorted(path for path in RESULTS.iterdir() if path.is_dir())
    linked = set(re.findall(r"\]\((\w+)/README\.md\)", (RESULTS / "README.md").read_text()))
    assert linked == {folder.name for folder in STUDIES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_of_pages_lead_somewhere(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / link).exists(), link
    for anchor in re.findall(r"README\.md#([\w-]+)\)", text):
        headings = re.findall(r"^#+ (.*)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_files_and_plots_are_those_that_are_committed(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study(folder)
    assert study.about and all(study.inputs.values())
    drawn = {word.rpartition("/")[2] for words in study.plots for word in words if word.endswith(".png")}
    made = {*study.files, *drawn}
    assert all((folder / name).is_file() for name in made)
    assert {path.name for path in folder.glob("*.png")} <= made


def _commands() -> dict[str, list[str]]:
    """For each command and recipe, what all jobs that run it set, together."""
    together: dict[str, dict[str, str]] = {}
    with contextlib.chdir(ROOT):
        for job in chain.from_iterable(read_study(folder).jobs for folder in STUDIES):
            if "--config" in job.words:
                settings = (word for word in job.words if "=" in word)
                kind = " ".join(word for word in job.words if "=" not in word)
                together.setdefault(kind, {}).update((word.partition("=")[0], word) for word in settings)
    return {kind: [*kind.split(), *words.values()] for kind, words in together.items()}


@pytest.mark.slow
@pytest.mark.parametrize("words", [pytest.param(words, id=kind) for kind, words in _commands().items()])
def test_commands_parse_against_the_command_line(words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = [re.sub(r"\$\{[^}]*\}", "DIR", word) for word in words]
    assert main([*words, "--print_config"]) == 0, capsys.readouterr().err
