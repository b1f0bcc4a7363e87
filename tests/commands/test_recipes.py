"""``hwaware recipes``: the recipes that come with hwaware, listed and copied; ``recipes/…`` stands for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hwaware.cli.main import main
from hwaware.cli.recipes import with_ancestors
from hwaware.commands.grid import read_grid
from hwaware.commands.packaged import found_recipe, packaged_recipes
from tests.command_line import run
from tests.conftest import ROOT

NAMES = [path.relative_to(ROOT / "recipes").with_suffix("").as_posix() for path in ROOT.glob("recipes/**/*.yaml")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_line_for_each_recipe_says_what_it_is(capsys):
    run("recipes")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert sorted(lines) == sorted(NAMES)
    assert lines["lenet5_digital"].startswith("LeNet-5 in full precision: the teacher")
    for name, said in lines.items():
        assert said.endswith(".") and "  " not in said, f"{name}: its first line is no whole sentence"


@pytest.mark.parametrize("name", NAMES)
def test_copies_stand_for_what_they_are_copied_from(name, elsewhere, capsys):
    run("recipes", "copy", name, "--out", "own/mine.yaml")
    assert capsys.readouterr().out == "own/mine.yaml\n"
    copy, original = elsewhere / "own" / "mine.yaml", ROOT / "recipes" / f"{name}.yaml"
    contents = [yaml.safe_load(path.read_text()) for path in (copy, original)]
    for content in contents:
        content.pop("based_on", None)
    assert contents[0] == contents[1]
    if "sweeps/" not in name:
        before = [path.resolve() for path in with_ancestors(original)[:-1]]
        assert [path.resolve() for path in with_ancestors(copy)[:-1]] == before
    assert "own/mine.yaml" in copy.read_text(), "its header would launch the original"
    assert f"recipes/{name}.yaml" not in copy.read_text()


def test_a_copy_is_named_as_its_recipe_and_taken_by_any_of_its_names(elsewhere):
    run("recipes", "copy", "recipes/compare/cifar10_dora.yaml")
    assert (elsewhere / "cifar10_dora.yaml").is_file()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["copy", "quickstrat"], "there is no recipe 'quickstrat'. Did you mean 'quickstart'?"),
        (["copy", "compare/cifar10_dorra"], "Did you mean 'compare/cifar10_dora'?"),
        (["copy", "quickstart"], "'quickstart.yaml' exists already: give another --out, or remove it."),
        (["copy", "quickstart", "--out", "mine.txt"], "--out 'mine.txt' must end in .yaml."),
        (["copy", "quickstart", "--out", "folder.yaml"], "'folder.yaml' can't be written: it is a folder."),
        (["copy"], "the following arguments are required: name"),
        (["quickstart"], "recipes: no command 'quickstart'."),
    ],
)
def test_what_can_not_be_copied(words, reason, elsewhere, capsys):
    (elsewhere / "quickstart.yaml").write_text("mine")
    (elsewhere / "folder.yaml").mkdir()
    assert main(["recipes", *words]) == 2
    assert reason in capsys.readouterr().err
    assert sorted(path.name for path in elsewhere.rglob("*")) == ["folder.yaml", "quickstart.yaml"]
    assert (elsewhere / "quickstart.yaml").read_text() == "mine"


def test_recipes_in_command_lines_are_the_packaged_ones_where_there_are_no_others(elsewhere, capsys):
    original = ROOT / "recipes" / "quickstart.yaml"
    assert found_recipe("recipes/quickstart.yaml").samefile(original)
    assert [path.samefile(original) for path in with_ancestors("recipes/quickstart.yaml")] == [True]
    assert len(read_grid("recipes/sweeps/quickstart.yaml")) == 4
    assert main(["fit", "--config", "recipes/quikstart.yaml"]) == 2
    said = "there is no recipe 'recipes/quikstart.yaml'. Did you mean 'recipes/quickstart.yaml'?"
    assert said in capsys.readouterr().err
    assert not found_recipe("quickstart.yaml").exists() and not found_recipe("recipes").exists()
    (elsewhere / "recipes").mkdir()
    (elsewhere / "recipes" / "quickstart.yaml").write_text("seed_everything: 5")
    assert [path.resolve() for path in with_ancestors("recipes/quickstart.yaml")] == [
        elsewhere / "recipes" / "quickstart.yaml"
    ]


def test_a_recipe_of_ones_own_may_build_on_a_packaged_one(elsewhere):
    (elsewhere / "mine.yaml").write_text("based_on: recipes/compare/cifar10_dora.yaml")
    names = [path.stem for path in with_ancestors(elsewhere / "mine.yaml")]
    assert names == ["cifar10_resnet20", "cifar10_resnet20", "cifar10_dora", "mine"]


def test_all_files_are_found_by_their_names():
    assert {name: path.resolve() for name, path in packaged_recipes().items()} == {
        name: ROOT / "recipes" / f"{name}.yaml" for name in NAMES
    }
