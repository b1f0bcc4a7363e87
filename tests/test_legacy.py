"""What earlier versions wrote still loads, and is the same network on the same chip (``tests/legacy/cases.py``)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

import hwaware
from tests.command_line import run
from tests.legacy.cases import (
    CASES,
    CHIP_SEED,
    FOLDER,
    MORE_STEPS,
    STEPS,
    TEN_YEARS_S,
    arguments,
    images,
    values_of,
)

#: Logits are some units large; processors round differently.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

#: Percent: two of the 359 test images.
TWO_IMAGES = 0.6

EXPORTED = [name for name, case in CASES.items() if not case.converters]


def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "expected.json").read_text())


def assert_close(found: torch.Tensor, wanted: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(wanted), **CLOSE)


def assert_rows_close(found: list[list[Any]], wanted: list[list[Any]]) -> None:
    assert [row[:3] for row in found] == [row[:3] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one[3:] == pytest.approx(other[3:], abs=TWO_IMAGES), one[:3]


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_pushed_folder(name):
    model = hwaware.from_pretrained(FOLDER / name / "pushed")
    wanted = expected(name)
    with hwaware.drift_free(model):
        assert_close(model(images()), wanted["exact"])
    with hwaware.Chip.program(model, seed=CHIP_SEED).at(TEN_YEARS_S):
        assert_close(model(images()), wanted["chip"])


@pytest.mark.parametrize("name", EXPORTED)
@torch.no_grad()
def test_a_bundle(name):
    bundle, network = hwaware.read_bundle(FOLDER / name / "bundle"), timm.create_model("legacy_test_net").eval()
    bundle.install(network)
    wanted = expected(name)
    with hwaware.drift_free(network):
        assert_close(network(images()), wanted["exact"])
    chip = hwaware.Chip.program(network, seed=CHIP_SEED)
    with chip.at(TEN_YEARS_S):
        assert_close(network(images()), wanted["chip"])
    assert len(bundle.repairs) == len(CASES[name].methods)
    for repair in bundle.repairs:
        with chip.at(TEN_YEARS_S), repair(chip, TEN_YEARS_S):
            assert_close(network(images()), wanted[repair.method.name])


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "last.ckpt"])
@pytest.mark.parametrize("name", CASES)
def test_finetuned_weights_age_as_they_did(name, file, tmp_path):
    option = "--ckpt_path" if file.endswith(".ckpt") else "--weights"
    run(*arguments("drift", name, tmp_path), option, FOLDER / name / file)
    assert_rows_close(values_of(tmp_path / "legacy" / "version_0" / "rows.csv"), expected(name)["rows"])


#: Cells with a curve, whose noise is exact through it since (CHANGELOG.md); with a reference column, too; and outputs
#: of converters, whose noise is drawn as that of weights is since. All draw from a pool of another size since.
#: Each with the most that outputs may differ, as a share of their norm.
NOISE_HAS_CHANGED = {"differential": 0.2, "excluded": 0.2, "converters": 0.4, "bit_sliced": 0.3}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_run_goes_on_from_its_checkpoint(name, tmp_path):
    """Ends where the version that wrote the checkpoint ended: optimiser, noise, retention weight, ranges and all."""
    more = ("--trainer.max_steps", MORE_STEPS, "--evaluation.networks", "[]")
    run(*arguments("fit", name, tmp_path), *more, "--ckpt_path", FOLDER / name / "last.ckpt")
    folder = tmp_path / "legacy" / "version_0"
    steps = [line.split(",")[1] for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
    assert steps[0] == str(STEPS)  # the first that the checkpoint had not seen
    network = timm.create_model("legacy_test_net").eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    found, then = network(images()), expected(name)["resumed"]
    if name in NOISE_HAS_CHANGED:
        wanted = torch.tensor(then)
        assert ((found - wanted).norm() / wanted.norm()).item() < NOISE_HAS_CHANGED[name]
    else:
        assert_close(found, then)
