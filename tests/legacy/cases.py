"""What the files here are of, and how today's commands are told so.

Each folder has a run's ``last.ckpt`` and ``model.safetensors``, a ``bundle`` (not where there are converters, of which
bundles said nothing), the folder that ``hwaware push`` made (``pushed``), and ``expected.json``. All were made by
commit a780170 (by ``scripts/make_legacy.py`` of commit 2c0576a), and are not to be made anew: they stand for what
users have.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tests.legacy.network  # noqa: F401 - registers the network

FOLDER = Path(__file__).parent
DIGITAL = FOLDER / "digital.safetensors"

CHIP_SEED = 2_000_000
TEN_YEARS_S = 315_360_000.0

#: Optimiser steps of the runs, and of those that go on from their checkpoints.
STEPS, MORE_STEPS = 6, 10

RECIPE = """\
seed_everything: 0
model:
  class_path: ImageClassification
  init_args:
    name: legacy_test_net
    num_classes: 10
    optimizer:
      class_path: torch.optim.SGD
      init_args: {lr: 0.05, momentum: 0.9}
data:
  class_path: ImageData
  init_args: {source: digits, batch_size: 128}
evaluation:
  n_chips: 2
  ages_s: [0, 315360000]
  networks: [finetuned]
trainer:
  accelerator: cpu
  log_every_n_steps: 1
  enable_progress_bar: false
checkpoint:
  every_n_train_steps: 3
"""


@dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
        device: its preset.
        options: of the device and the mapping, by the names that they had at a780170.
        exclude: layers that stay digital.
        converters: their settings.
        methods: repairs that the bundle ships.
    """

    device: str
    options: dict[str, Any]
    exclude: tuple[str, ...] = ()
    converters: dict[str, Any] = field(default_factory=dict)
    methods: tuple[dict[str, Any], ...] = ()


CASES = {
    "differential": Case(
        "reram_cmo",
        {"mapping": "differential", "scale": "tensor", "kappa": 2.0},
        methods=({"class_path": "VeraPlus", "init_args": {"steps": 3}},),
    ),
    "bit_sliced": Case(
        "reram_cmo",
        {"mapping": "bit_sliced", "scale": "fixed", "kappa": "linear", "bits": 8, "slice_bits": 2, "fraction_bits": 6},
    ),
    "converters": Case(
        "reram_wan2022",
        {"mapping": "offset", "scale": "channel", "kappa": "linear"},
        converters={"dac_bits": 8, "adc_bits": 8, "input_kappa": 1.0, "input_range": 0.8, "output_noise": 0.005},
    ),
    "excluded": Case(
        "pcm",
        {
            "mapping": "differential",
            "scale": "channel",
            "kappa": 1.0,
            "levels": 15,
            "temperature_c": 45,
            "activation_energy_ev": 0.3,
        },
        exclude=("conv1",),
    ),
}


#: Where settings that are no constants of a device belong.
_PLACES = dict.fromkeys(("mapping", "scale", "kappa"), "encoding")
_PLACES |= dict.fromkeys(("levels", "bits", "slice_bits", "fraction_bits"), "encoding.format")


def arguments(command: str, name: str, root: Path) -> list[str]:
    """A command on the recipe of a case; the one place that knows how the hardware is spelt.

    Args:
        command: ``fit``, ``drift``, …
        name: of the case.
        root: for the recipe and for runs.
    """
    case, recipe = CASES[name], root / "legacy.yaml"
    recipe.write_text(RECIPE)
    keys: list[object] = ["--model.hardware.device.name", case.device]
    for key, value in case.options.items():
        keys += [f"--model.hardware.{_PLACES.get(key, 'device')}.{key}", value]
    if case.exclude:
        keys += ["--model.hardware.layers", json.dumps([{"match": case.exclude, "digital": True}])]
    if case.converters:
        keys += ["--model.hardware.crossbar.converters", json.dumps(case.converters)]
    noise = {"kind": "device", "ages": {"kind": "list", "ages_s": [3600, TEN_YEARS_S]}}
    keys += ["--model.noise", json.dumps(noise), "--model.retention.share", 0.05]
    where = ("--model.weights", DIGITAL, "--trainer.default_root_dir", root)
    return [str(one) for one in (command, "--config", recipe, *where, *keys)]


def images() -> Tensor:
    """Four inputs, which no version of a random number generator changes."""
    return torch.sin(0.37 * torch.arange(4 * 3 * 8 * 8, dtype=torch.float64)).float().view(4, 3, 8, 8)


def values_of(rows: Path) -> list[list[Any]]:
    """Age, chip, metric, value and the exact network's value of each row of a file."""
    with rows.open(newline="", encoding="utf-8") as file:
        return [
            [float(row["age_s"]), int(row["chip_seed"]), row["metric"], float(row["value"]), float(row["drift_free"])]
            for row in csv.DictReader(file)
        ]
