"""Recipes and options as one table."""

from __future__ import annotations

import pytest

from hwaware.cli.settings import read_settings


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "base.yaml").write_text("trainer: {max_steps: 5}\nmodel: {class_path: A, init_args: {x: 1, y: {z: 2}}}")
    (tmp_path / "recipe.yaml").write_text(
        "based_on: base.yaml\nmodel: {init_args: {y: {z: 3}}}\nlist: [{class_path: B}]"
    )
    return str(tmp_path / "recipe.yaml")


BASE = {"class_path": "A", "x": 1, "y": {"z": 3}}


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ([], BASE),
        (["--model.x", "2"], BASE | {"x": "2"}),
        (["--model.init_args.y.z=null"], BASE | {"y": {"z": None}}),
        (["--model", "C"], "C"),
        (["--model", "C", "--model.x", "2"], {"class_path": "C", "x": "2"}),
        (["--model", "{class_path: C, init_args: {w: 1}}"], {"class_path": "C", "w": 1}),
        (["--model.more+", "a", "--model.more+=[b, c]"], BASE | {"more": ["a", "b", "c"]}),
        (["--model.help", "A", "--print_config"], BASE),
        (["--print_config", "--model.x", "2"], BASE | {"x": "2"}),
    ],
)
def test_the_later_wins(recipe, options, model):
    settings, words = read_settings(["--config", recipe, *options])
    assert settings["model"] == model
    assert settings["trainer"] == {"max_steps": 5} and words == []


@pytest.mark.parametrize("flag", ["--print_config", "--help", "-h"])
def test_flags_take_no_value(recipe, flag):
    assert read_settings(["--config", recipe, flag, "stray"])[1] == ["stray"]


def test_a_key_below_a_list_is_its_last_elements(recipe):
    settings, words = read_settings(["-c", recipe, "--list.a", "1", "stray", "--flag"])
    assert settings["list"] == [{"class_path": "B", "a": "1"}] and words == ["stray"] and "flag" in settings
