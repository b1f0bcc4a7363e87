"""Ages as words and the home folder, in recipes and options."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hwaware.cli.main import main
from hwaware.cli.normalise import normalise, normalise_options, normalise_recipe
from hwaware.cli.parser import parse
from hwaware.commands import load
from hwaware.errors import UserError
from hwaware.report.labels import age_label
from hwaware.system.reading import seconds
from tests.command_line import FINETUNE

TEN_YEARS_S = 315_360_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("3600", 3600), ("1e3", 1000), ("0", 0), ("1h", 3600), ("1.5 h", 5400), ("90min", 5400), ("1d", 86_400)),
        *(
            ("1 day", 86_400),
            ("2 weeks", 1_209_600),
            ("1mo", 2_592_000),
            ("10y", TEN_YEARS_S),
            ("10 Years", TEN_YEARS_S),
        ),
    ],
)
def test_ages(text, expected):
    assert seconds(text) == expected
    assert seconds(age_label(expected)) == pytest.approx(expected, rel=1e-2)  # as reports write them


@pytest.mark.parametrize("text", ["1m", "10z", "soon", "", "1 2h", "-1d"])
def test_no_ages(text):
    with pytest.raises(UserError, match="is not an age: give seconds, or a number with one of s, min, h, d, w, mo, y"):
        seconds(text)


def test_only_under_keys_of_seconds(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    table = {"ages": {"ages_s": [0, "1d"]}, "name": "4s", "path": "~/x", "age_s": "1y", "list": ["~"], "x_s": "a b"}
    assert normalise(table) == {
        **{"ages": {"ages_s": [0, 86400.0]}, "name": "4s", "path": "/home/me/x", "age_s": 31_536_000.0},
        **{"list": ["/home/me"], "x_s": "a b"},
    }
    text = "a: 1e-3  # as it is\n"
    assert normalise_recipe(text) is text
    with pytest.raises(UserError, match="ages_s: '10z' is not an age"):
        normalise({"ages_s": ["10z"]})
    words = ["--evaluation.ages_s", "[0,1d]", "--a.ages_s+=10y", "--out=~/x", "~/y", "--name", "4s", "--lr", "1e-3"]
    expected = ["--evaluation.ages_s", "[0, 86400.0]", "--a.ages_s+=315360000.0", "--out=/home/me/x", "/home/me/y"]
    assert normalise_options(words) == [*expected, "--name", "4s", "--lr", "1e-3"]


def test_a_word_that_python_keeps():
    words = ["--evaluation.yield", "99", "--evaluation.yield=99", "--other.yield", "1"]
    expected = ["--evaluation.yield_percent", "99", "--evaluation.yield_percent=99", "--other.yield", "1"]
    assert normalise_options(words) == expected
    table = {"evaluation": {"yield": 99, "ages_s": ["1h"]}, "yield": 1}
    assert normalise(table) == {"evaluation": {"yield_percent": 99, "ages_s": [3600]}, "yield": 1}


def test_a_recipe_and_options(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text(Path(FINETUNE).read_text())
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "based_on: ~/base.yaml\n"
        "model:\n  init_args:\n    weights: ~/w.safetensors\n    retention: {ages_s: [1h, 10y]}\n"
        "evaluation: {ages_s: [0, 1 day, 10y]}\n"
    )
    words = ["--config", "~/mine.yaml", "--model.noise.ages.ages_s", "[1s, 1y]", "--trainer.default_root_dir=~/runs"]
    _, config = parse("fit", load("fit"), normalise_options(words))
    options = config.model.init_args
    assert config.evaluation.ages_s == [0, 86400, TEN_YEARS_S] and options.weights == str(tmp_path / "w.safetensors")
    assert list(options.retention.ages_s) == [3600, TEN_YEARS_S] and list(options.noise.ages.ages_s) == [1, 31_536_000]
    assert config.trainer.default_root_dir == str(tmp_path / "runs")


def test_commands_without_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    times = ["--times", "0", "1h", "1d"]
    assert main(["device", "simulate", "reram_cmo", "--out=~/r.csv", "--cells", "24", *times]) == 0
    with (tmp_path / "r.csv").open() as file:
        assert {line["time_s"] for line in csv.DictReader(file)} == {"0", "3600", "86400"}
    assert main(["device", "simulate", "reram_cmo", "--out=~/s.csv", "--times", "1z"]) == 2
    assert "'1z' is not an age" in capsys.readouterr().err
