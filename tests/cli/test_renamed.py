"""Old keys of recipes: answered with what to write now, in one line."""

from __future__ import annotations

from argparse import ArgumentError
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from hwaware.cli.explain import explain
from hwaware.cli.renamed import moved

CASES = {
    "model.device.name": ("pcm", "model.hardware.device.name"),
    "model.device.mapping": ("offset", "model.hardware.encoding.mapping"),
    "model.device.clamp": ("zero", "model.hardware.device.clamp"),
    "model.device.kappa": ("linear", "model.hardware.encoding.kappa"),
    "model.device.overrides.g_min_us": (1.0, "model.hardware.device.g_min_us"),
    "model.device.overrides.levels": (15, "model.hardware.encoding.format {levels: 15}"),
    "model.device.overrides.bits": (4, "model.hardware.encoding.format {bits: 4, slice_bits: 2}"),
    "model.device.overrides.slice_bits": (4, "model.hardware.encoding.format {bits: 8, slice_bits: 4}"),
    "model.device.overrides.fraction_bits": (
        6,
        "model.hardware.encoding.format {bits: 8, slice_bits: 2, fraction_bits: 6}",
    ),
    "model.converters.dac_bits": (6, "model.hardware.crossbar.converters.dac_bits"),
    "model.exclude": (["conv1", "linear"], "model.hardware.layers [{match: [conv1, linear], digital: true}]"),
    "model.keep_digital.layers": (2, "model.hardware.keep_digital.layers"),
    "evaluation.devices": (
        [{"name": "pcm"}],
        "evaluation.hardware [{device: {name: NAME}, encoding: {mapping: MAPPING}}]",
    ),
    "model.hardware.encoding.levels": (15, "model.hardware.encoding.format {levels: 15}"),
    "model.device": (None, "model.hardware null"),
}


@pytest.mark.parametrize("key", CASES)
def test_an_old_key_is_answered_with_the_new_one(key):
    value, new = CASES[key]
    assert moved(key, value) == f"{key} moved: write {new}."


def test_a_table_stands_for_its_keys():
    device = {"name": "pcm", "mapping": "offset", "overrides": {"bits": 8, "slice_bits": 2, "g_min_us": 1.0}}
    assert moved("model.device", device) == (
        "model.device.name, model.device.mapping, model.device.overrides.bits, model.device.overrides.slice_bits, "
        "model.device.overrides.g_min_us moved: write model.hardware.device.name, model.hardware.encoding.mapping, "
        "model.hardware.encoding.format {bits: 8, slice_bits: 2}, model.hardware.device.g_min_us."
    )


def test_what_is_written_of_a_code_is_what_was_given_and_can_be():
    code = {"bits": 6, "slice_bits": 3, "fraction_bits": 4}
    text = moved("model.device.overrides", code)
    assert text.endswith("write model.hardware.encoding.format {bits: 6, slice_bits: 3, fraction_bits: 4}.")
    assert moved("model.device.overrides", {"bits": 7}).endswith("format {bits: 7, slice_bits: 1}.")


@pytest.mark.parametrize("key", ["model.nois", "model.device.mappings", "model.devices", "trainer.devices"])
def test_other_keys_are_not(key):
    assert moved(key, "x") is None


class Task:
    """A task as it is after the move."""

    def __init__(self, hardware: dict[str, Any] | None = None, name: str = "x") -> None: ...


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", help="as the commands have it")
    parser.add_subclass_arguments(Task, "model")
    return parser


@pytest.mark.parametrize("where", ["recipe", "option", "nested option"])
def test_where_the_parser_lacks_it(parser, where, tmp_path):
    recipe = tmp_path / "old.yaml"
    recipe.write_text(f"model: {{class_path: {__name__}.Task, init_args: {{device: {{mapping: offset}}}}}}")
    (tmp_path / "new.yaml").write_text(f"model: {{class_path: {__name__}.Task}}")
    arguments = {
        "recipe": ["--config", str(recipe)],
        "option": ["--config", str(tmp_path / "new.yaml"), "--model.device.mapping", "offset"],
        "nested option": ["--config", str(tmp_path / "new.yaml"), "--model.init_args.device.mapping=offset"],
    }[where]
    text = explain(parser, arguments, ArgumentError(None, "many lines"))
    assert text == "model.device.mapping moved: write model.hardware.encoding.mapping."
