#!/usr/bin/env python
"""Result rows of a fixed set of small runs, to see whether a change of the code changes any result.

    python scripts/golden_rows.py                                       writes tests/golden/rows.csv and about.csv
    python scripts/golden_rows.py --check tests/golden/rows.csv       makes them anew and compares
    python scripts/golden_rows.py --check tests/golden/rows.csv --only 'drift_*'
    python scripts/golden_rows.py --only resume                         makes this case's lines anew, keeps the others

Needs no network and no GPU; two or three minutes on two cores. Everything runs in a temporary folder, through the
command line and the few names of ``import hwaware``.

A line is ``case,key,value``: the key joins what identifies a number, the value is its text. ``device_params`` (JSON) is
a line of its own, once a case; in a comparison it may have keys more, which are told, but none less.

Floating-point results are equal bit for bit on one kind of processor and one version of torch only, which ``about.csv``
beside the rows names. Elsewhere the comparison says so and allows for rounding: 2 points for percentages (a few of the
359 test images), 1 % for all other numbers, and hashes are left out.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import fnmatch
import hashlib
import io
import json
import logging
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"  # sums over threads are rounded otherwise; for the processes that are started too

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import hwaware  # noqa: E402
import tests.tiny  # noqa: E402, F401 - registers the tiny network
from hwaware.cli.main import main as command_line  # noqa: E402
from scripts import make_tiny_reader  # noqa: E402

SEED = 0
CHIP_SEED = 2_000_000
TEN_YEARS_S = 315_360_000.0
AGES_S = (0.0, 86400.0, TEN_YEARS_S)
GOLDEN = ROOT / "results" / "golden" / "rows.csv"

#: Columns of rows and costs that identify a run and not its result, or that change with every commit.
_VERSIONS = ("commit", "version")

#: Differences that are shown of a case.
_SHOWN = 5

#: What ends a key whose value is a percentage.
_PERCENT = ("value", "drift_free", "base_digital", "mean", "std", "loss_points", "loss_std", "kept_accuracy")
_PERCENT += ("exact_accuracy", "all_accuracy", "top1", "top5", "f1", "f1_has_ans", "em")

#: Allowed on another kind of processor: points of a percentage, share of any other number.
POINTS, RELATIVE = 2.0, 0.01

# A digital network on digits; what cells hold it is added by `device_keys`.
RECIPE = f"""\
seed_everything: {SEED}
model:
  class_path: ImageClassification
  init_args:
    name: tiny_test_net
    num_classes: 10
    optimizer:
      class_path: torch.optim.SGD
      init_args: {{lr: 0.05, momentum: 0.9}}
    scheduler:
      class_path: WarmupCosine
      init_args: {{warmup_steps: 3}}
data:
  class_path: ImageData
  init_args: {{source: digits, batch_size: 128, augment: crop}}
evaluation:
  n_chips: 2
  ages_s: {list(AGES_S)}
  networks: [base]
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  enable_progress_bar: false
checkpoint:
  every_n_train_steps: 3
"""

# The one place that knows how the hardware is spelt.


#: Where settings that are no constants of a device belong.
_PLACES = dict.fromkeys(("mapping", "scale", "kappa", "range_fraction"), "encoding")
_PLACES |= dict.fromkeys(("levels", "bits", "slice_bits", "fraction_bits"), "encoding.format")


def device_keys(
    name: str,
    exclude: Iterable[str] = (),
    converters: Mapping[str, Any] | None = None,
    corrected: bool = True,
    **options: Any,
) -> list[str]:
    """Options of the command line for a device, the mapping of weights to its cells, and what stands about them.

    Args:
        name: the preset.
        exclude: layers that stay digital.
        converters: their settings.
        corrected: whether weights are pre-distorted for the cells' curve.
        **options: mapping, scale, clamp, kappa (``linear``: none), range_fraction, levels, bits, slice_bits,
            fraction_bits, stuck_on, stuck_off, temperature_c, activation_energy_ev, or a constant of the law.
    """
    keys = ["--model.hardware.device.name", name]
    for key, value in options.items():
        text = "null" if value is None else str(value)
        keys += [f"--model.hardware.{_PLACES.get(key, 'device')}.{key}", text]
    if exclude:
        keys += ["--model.hardware.layers", json.dumps([{"match": list(exclude), "digital": True}])]
    if converters:
        keys += ["--model.hardware.crossbar.converters", json.dumps(dict(converters))]
    if not corrected:
        keys += ["--model.corrected", "false"]
    return keys


def in_cells(network: nn.Module, name: str, exclude: Iterable[str] = (), **options: Any) -> Any:
    """Converts a network in Python for the same settings (without converters), and programs a chip with it."""
    if options.get("kappa") == "linear":
        options["kappa"] = None
    rules = (hwaware.Rule(tuple(exclude), None),) if exclude else ()
    hwaware.convert(network, hwaware.Placement(hwaware.load_hardware(name, **options), rules))
    return hwaware.Chip.program(network, seed=CHIP_SEED)


def chip_of_bundle(bundle: Any, network: nn.Module) -> Any:
    """A chip with the network that a bundle holds."""
    bundle.install(network)
    return hwaware.Chip.program(network, seed=CHIP_SEED)


# What cases are made of.


@dataclass
class Workplace:
    """A folder for runs, with the networks that several cases start from, made when first needed."""

    folder: Path
    _made: dict[str, Path] = field(default_factory=dict)

    @property
    def recipe(self) -> Path:
        path = self.folder / "golden.yaml"
        if not path.exists():
            path.write_text(RECIPE)
        return path

    def run(self, *arguments: object) -> None:
        """A command in this process, which must succeed."""
        status = command_line([str(argument) for argument in arguments])
        if status:
            raise RuntimeError(f"hwaware {' '.join(map(str, arguments))} ended with {status}")

    def tiny(self, command: str, case: str, *arguments: object) -> Path:
        """A command with the tiny network as pretrained; returns the run's folder."""
        root = self.folder / case
        self.run(*self.tiny_arguments(command, root), *arguments)
        return _latest(root)

    def tiny_arguments(self, command: str, root: Path) -> list[object]:
        weights = ("--model.weights", self.pretrained())
        return [command, "--config", self.recipe, *weights, "--trainer.default_root_dir", root]

    def pretrained(self) -> Path:
        """Weights of the tiny network after some digital training."""
        return self._once("pretrained", self._pretrain) / "model.safetensors"

    def reader(self) -> Path:
        """Folder with ``data`` and ``model``, a reader of random weights."""
        return self._once("reader", self._make_reader)

    def taught_reader(self) -> Path:
        """The folder of the reader's digital run."""
        return self._once("taught", self._teach)

    def _once(self, name: str, make: Callable[[], Path]) -> Path:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _pretrain(self) -> Path:
        root = self.folder / "pretrained"
        self.run("fit", "--config", self.recipe, "--trainer.default_root_dir", root, "--trainer.max_epochs", 2)
        return _latest(root)

    def _make_reader(self) -> Path:
        folder = self.folder / "tiny_reader"
        make_tiny_reader.make(folder)
        fix_vocabulary(folder / "model" / "tokenizer.json", sorted((folder / "data").glob("*.json")))
        return folder

    def _teach(self) -> Path:
        root = self.folder / "taught"
        recipe = ROOT / "recipes" / "squad2_tiny_digital.yaml"
        self.run(*self.reader_arguments("fit", recipe, self.reader() / "model", root), "--trainer.max_epochs", 2)
        return _latest(root)

    def reader_arguments(self, command: str, recipe: Path, checkpoint: Path, root: Path) -> list[object]:
        what = ("--model.checkpoint", checkpoint, "--data.path", self.reader() / "data")
        where = ("--trainer.default_root_dir", root, "--trainer.accelerator", "cpu")
        where += ("--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", 1)
        return [command, "--config", recipe, *what, *where]


def fix_vocabulary(tokenizer: Path, texts: list[Path]) -> None:
    """Gives a tokenizer the same words each time: those that it learns differ between equal runs, where counts tie."""
    content = json.loads(tokenizer.read_text())
    counts = collections.Counter(re.findall(r"[a-z]+|[0-9]|[^a-z0-9\s]", "\n".join(map(Path.read_text, texts)).lower()))
    characters = sorted({character for word in counts for character in word})
    special = [token["content"] for token in sorted(content["added_tokens"], key=lambda token: token["id"])]
    words = sorted(counts.keys() - set(characters), key=lambda word: (-counts[word], word))
    vocabulary = [*special, *characters, *(f"##{character}" for character in characters), *words]
    # No more than the network has embeddings for.
    content["model"]["vocab"] = {token: i for i, token in enumerate(vocabulary[: len(content["model"]["vocab"])])}
    tokenizer.write_text(json.dumps(content))


Lines = Iterator[tuple[str, str]]
CASES: dict[str, Callable[[Workplace, str], Lines]] = {}


def case(make: Callable[[Workplace, str], Lines]) -> Callable[[Workplace, str], Lines]:
    """Registers a case under its function's name."""
    CASES[make.__name__] = make
    return make


def lines_of_rows(folder: Path) -> Lines:
    """A run's ``rows.csv``."""
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The same in all rows, or of a method or metric alone.
    same = ("recipe", "model", "dataset", "device", "mapping", "n_samples", "seed")
    shared: dict[str, str] = {}
    for row in rows:
        shared |= {f"run|{name}": row[name] for name in same}
        shared["run|device_params"] = _canonical(row["device_params"])
        of_method = "|".join((row["network"], row["method"]))
        shared[f"{of_method}|method_params"] = _canonical(row["method_params"])
        shared[f"{of_method}|{row['metric']}|drift_free"] = row["drift_free"]
        shared[f"{row['metric']}|base_digital"] = row["base_digital"]
    yield from shared.items()
    for row in rows:
        about = (row["network"], row["method"], f"age {float(row['age_s']):.10g} s", f"chip {row['chip_seed']}")
        yield "|".join((*about, row["metric"], "value")), row["value"]


def lines_of_csv(file: Path, key: tuple[str, ...], left_out: tuple[str, ...] = ()) -> Lines:
    """Any other table, each cell by the columns that identify its line."""
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            about = [file.name, *(row[name] for name in key)]
            for name, value in row.items():
                if name not in (*key, *left_out, *_VERSIONS):
                    yield "|".join((*about, name)), value


def lines_of_losses(folder: Path) -> Lines:
    """What a training logged at each step."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("epoch", "step"):
                    yield f"epoch {row['epoch']}|step {row['step']}|{name}", value


def lines_of_weights(folder: Path) -> Lines:
    """The tensors that a run ends with."""
    state = load_file(folder / "model.safetensors")
    yield "model.safetensors|sha256", hash_of(state)
    yield "model.safetensors|norm", repr(_norm(state.values()))


def lines_of_output(key: str, output: Tensor) -> Lines:
    """A network's output: its hash, and the numbers for the first sample, for eyes and for other processors."""
    yield f"{key}|sha256", hash_of({"output": output})
    yield f"{key}|norm", repr(_norm([output]))
    for number, value in enumerate(output[0].tolist()[:10]):
        yield f"{key}|{number}", repr(value)


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the raw bytes of tensors, by their names in order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in tensors))


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def _latest(root: Path) -> Path:
    """The folder of the last run in a folder of runs."""
    found = sorted(root.glob("*/version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    return found[-1]


# Cases: aged chips, through every mapping.

FIXED = {"scale": "fixed", "kappa": "linear"}
DRIFT: dict[str, dict[str, Any]] = {
    "offset": dict(name="reram_cmo", mapping="offset", scale="tensor", kappa=2.0),
    "offset_channel_levels": dict(name="reram_cmo", mapping="offset", scale="channel", kappa="linear", levels=15),
    "offset_range": dict(name="reram_powerlaw", mapping="offset", scale="tensor", kappa=2.0, range_fraction=0.5),
    "offset_zero": dict(name="reram_cmo", mapping="offset", scale="channel", kappa=2.0, clamp="zero"),
    "reference": dict(name="reram_cmo", mapping="offset_reference", scale="tensor", kappa="linear"),
    "reference_channel_levels": dict(
        name="reram_cmo", mapping="offset_reference", scale="channel", kappa=2.0, levels=15
    ),
    "differential": dict(name="reram_cmo", mapping="differential", scale="tensor", kappa=2.0),
    "differential_channel_levels": dict(
        name="reram_cmo", mapping="differential", scale="channel", kappa=2.0, levels=15
    ),
    "differential_range": dict(
        name="reram_cmo_acc0.2", mapping="differential", scale="channel", kappa="linear", range_fraction=0.5
    ),
    "differential_range_levels": dict(
        name="reram_cmo", mapping="differential", scale="tensor", kappa=1.0, range_fraction=0.8, levels=11
    ),
    "symmetric": dict(name="reram_cmo", mapping="differential_symmetric", scale="tensor", kappa=2.0),
    "symmetric_channel_levels": dict(
        name="reram_relative", mapping="differential_symmetric", scale="channel", kappa="linear", levels=15
    ),
    "relative": dict(name="reram_relative", mapping="offset", scale="channel", kappa=2.0, relative_drift=0.2),
    "pcm": dict(name="pcm", mapping="differential", scale="tensor", kappa="linear"),
    "wan2022": dict(name="reram_wan2022", mapping="differential", scale="channel", kappa=2.0),
    "charan2020": dict(name="charan2020", mapping="differential", scale="channel"),
    "sliced": dict(name="reram_cmo", mapping="bit_sliced", scale="tensor", kappa="linear", bits=8, slice_bits=2),
    "sliced_channel": dict(name="pcm", mapping="bit_sliced", scale="channel", kappa="linear", bits=4, slice_bits=1),
    "sliced_fixed": dict(name="diware2023", severity=0.35),
    "sliced_fixed_narrow": dict(name="reram_cmo", mapping="bit_sliced", bits=4, slice_bits=1, fraction_bits=2, **FIXED),
    "sliced_stuck": dict(
        name="reram_cmo", mapping="bit_sliced", scale="channel", kappa="linear", stuck_on=0.01, stuck_off=0.02
    ),
    "converters": dict(
        name="reram_cmo",
        mapping="differential",
        scale="tensor",
        kappa="linear",
        converters=dict(dac_bits=6, adc_bits=6, output_noise=0.02, input_kappa=1.0, input_range=0.8),
    ),
    "converters_curve_levels": dict(
        name="reram_cmo", mapping="offset", scale="channel", kappa=2.0, levels=15, converters=dict(adc_bits=6)
    ),
    "excluded": dict(name="reram_cmo", mapping="differential", scale="tensor", kappa=2.0, exclude=["conv1"]),
    "hot": dict(name="reram_cmo", mapping="offset", scale="tensor", temperature_c=85, activation_energy_ev=0.6),
}


def drift(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """The pretrained network, told of the cells' curve and not, on ageing chips."""
    few = ("--evaluation.networks", "[base_uncorrected, base]")
    yield from lines_of_rows(place.tiny("drift", name, *device_keys(**options), *few))


class Wide(nn.Module):
    """Layers that take more than one crossbar and more than one block of random numbers, and grouped ones."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6)
        self.wide = nn.Linear(6 * 100, 520)
        self.head = nn.Linear(520, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.grouped(x).relu()).relu()
        return self.head(self.wide(x.flatten(1)).relu())


@torch.no_grad()
def cells(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """Outputs of a random network with large and grouped layers on one chip, in plain Python."""
    torch.manual_seed(SEED)
    network, x = Wide().eval(), torch.randn(2, 4, 12, 12)
    chip = in_cells(network, **options)
    with hwaware.drift_free(network):
        yield from lines_of_output("drift-free", network(x))
    for age_s in (0.0, TEN_YEARS_S):
        with chip.at(age_s):
            yield from lines_of_output(f"age {age_s:.10g} s", network(x))
    for layer, weight in hwaware.effective_state_dict(network).items():
        yield f"effective|{layer}|sha256", hash_of({layer: weight})


for _name, _options in DRIFT.items():
    CASES[f"drift_{_name}"] = partial(drift, _options)
for _name, _options in DRIFT.items():
    if "converters" in _options:  # whose ranges are measured on data
        continue
    CASES[f"cells_{_name}"] = partial(cells, _options | ({"exclude": ["grouped"]} if "exclude" in _options else {}))

# Cases: training.

NOISE = {"kind": "device", "ages": {"kind": "log_uniform", "ages_s": [1, TEN_YEARS_S]}}
LIST = {"kind": "device", "ages": {"kind": "list", "ages_s": [0, 3600, TEN_YEARS_S]}}
OLD = {"kind": "device", "ages": {"kind": "fixed", "ages_s": [TEN_YEARS_S]}}
RETENTION = ("--model.retention.share", 0.05)


def _noise(settings: dict[str, Any]) -> tuple[str, str]:
    return "--model.noise", json.dumps(settings)


TRAIN: dict[str, tuple[str, tuple[object, ...]]] = {
    "differential": ("differential", (*_noise(NOISE), *RETENTION, "--model.clip_alpha", 2.5)),
    "offset": ("offset", (*_noise(NOISE), *RETENTION)),
    "offset_levels": ("offset_channel_levels", (*_noise(LIST), *RETENTION)),
    "reference": ("reference_channel_levels", (*_noise(NOISE), *RETENTION)),
    "symmetric": ("symmetric", (*_noise(LIST), *RETENTION)),
    "range": ("differential_range_levels", (*_noise(NOISE), *RETENTION)),
    "sliced": ("sliced", (*_noise(NOISE), *RETENTION)),
    "sliced_fixed": ("sliced_fixed", _noise({"kind": "device", "ages": {"kind": "fixed", "ages_s": [0]}})),
    "charan2020": ("charan2020", _noise({"kind": "device", "ages": {"kind": "fixed", "ages_s": [0]}})),
    "hot": ("hot", (*_noise(OLD), *RETENTION)),
    "gaussian": ("pcm", _noise({"kind": "gaussian", "std": 0.05})),
    "converters": ("converters", _noise(NOISE)),
    "excluded": ("excluded", (*_noise(NOISE), *RETENTION, "--model.freeze_bn_statistics", "false")),
    "distilled": (
        "differential",
        (*_noise(NOISE), "--model.distillation.temperature", 2, "--model.distillation.weight", 0.5),
    ),
}


def train(which: str, place: Workplace, name: str) -> Lines:
    """A few steps in the knowledge of the cells: every loss, and the weights at the end."""
    device, options = TRAIN[which]
    short = ("--trainer.max_steps", 4, "--evaluation.networks", "[]")
    folder = place.tiny("fit", name, *device_keys(**DRIFT[device]), *options, *short)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)


for _name in TRAIN:
    CASES[f"train_{_name}"] = partial(train, _name)


@case
def train_uncorrected(place: Workplace, name: str) -> Lines:
    """Training without pre-distortion for the cells' curve, and what that gives on chips."""
    device = device_keys(**DRIFT["differential"], corrected=False)
    few = ("--trainer.max_steps", 4, "--evaluation.networks", "[finetuned]")
    folder = place.tiny("fit", name, *device, *_noise(NOISE), *few)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)


@case
def digits(place: Workplace, name: str) -> Lines:
    """The quickstart, shortened: ResNet-20 on digits, pretrained, finetuned for the device, aged."""
    root, recipes = place.folder / name, ROOT / "recipes"
    common = ("--trainer.default_root_dir", root, "--trainer.enable_progress_bar", "false")
    common += ("--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", 1)
    run = place.run
    run("fit", "--config", recipes / "quickstart_pretrain.yaml", *common, "--trainer.max_steps", 20)
    first = root / "quickstart_pretrain" / "version_0"
    yield from ((f"pretrain|{key}", value) for key, value in lines_of_weights(first))
    few = ("--evaluation.n_chips", 2, "--evaluation.ages_s", list(AGES_S), "--data.test_subset", 120)
    weights = ("--model.weights", first / "model.safetensors")
    device = device_keys(**DRIFT["differential"])
    run("fit", "--config", recipes / "quickstart.yaml", *common, *weights, *device, *few, "--trainer.max_steps", 4)
    folder = root / "quickstart" / "version_0"
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)


@case
def bias(place: Workplace, name: str) -> Lines:
    """Mapping-aware biased training, and its network on chips whose states vary."""
    few = ("--evaluation.networks", "[base, finetuned]", "--evaluation.ages_s", "[0]", "--trainer.max_epochs", 2)
    settings = ("--model.bias.percent", 50, "--evaluation.finetuned_as", "biased")
    folder = place.tiny("fit", name, *device_keys(**DRIFT["sliced_fixed"]), *settings, *few)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)


@case
def resume(place: Workplace, name: str) -> Lines:
    """A run in one go, and the same killed after seven steps and resumed: equal weights and rows."""
    options = [*device_keys(**DRIFT["differential"]), *_noise(NOISE), *RETENTION]
    options += ["--trainer.max_steps", "14", "--trainer.max_epochs", "2"]
    options += ["--evaluation.networks", "[finetuned]", "--evaluation.ages_s", json.dumps([0.0, TEN_YEARS_S])]
    whole = place.tiny("fit", f"{name}_whole", *options)
    killed = place.folder / f"{name}_killed"
    killer = ("--trainer.callbacks", "tests.tiny.KillAt", "--trainer.callbacks.step", 7)
    killer += ("--trainer.callbacks.point", "batch_end")
    command = [sys.executable, "-m", "hwaware", *place.tiny_arguments("fit", killed), *options, *killer]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True)
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"the run that was to be killed ended with {done.returncode}:\n{done.stderr}")
    resumed = place.tiny("fit", f"{name}_killed", *options, "--ckpt_path", "last")
    for folder, what in ((whole, "whole"), (resumed, "resumed")):
        for key, value in (*lines_of_weights(folder), *lines_of_rows(folder)):
            yield f"{what}|{key}", value


# Cases: repairs, and what ships them.

METHODS = [
    {"class_path": "ChannelAffine", "init_args": {"steps": 3}},
    {"class_path": "BnStats", "init_args": {"batches": 2}},
    {"class_path": "BnAdaBs", "init_args": {"images": 100}},
    {"class_path": "BnFinetune", "init_args": {"images": 100, "epochs": 1, "batch_size": 50}},
    {"class_path": "VeraPlus", "init_args": {"steps": 3}},
    {"class_path": "Dora", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "DoraMagnitude", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "DoraLowRank", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "Lora", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "GlobalDriftCompensation"},
    {"class_path": "ColumnDriftCompensation"},
    {"class_path": "RandomSparseAdaptation", "init_args": {"images": 100, "epochs": 1, "batch_size": 50}},
    {"class_path": "ReadVerifyWrite"},
]
COSTS = ("network", "method")


def compare(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """Every repair of networks without layer norms, and what each costs."""
    few = ("--evaluation.ages_s", json.dumps([86400.0, TEN_YEARS_S]), "--evaluation.methods", json.dumps(METHODS))
    folder = place.tiny("compare", name, *device_keys(**options), *few)
    yield from lines_of_rows(folder)
    yield from lines_of_csv(folder / "costs.csv", COSTS, ("device_params", "method_params"))


for _name in ("differential", "offset", "sliced", "charan2020"):
    CASES[f"compare_{_name}"] = partial(compare, DRIFT[_name])


@case
def compare_scheduled(place: Workplace, name: str) -> Lines:
    """Repairs with a timetable, learning from the digital network's answers."""
    methods = [{"class_path": "VeraPlus", "init_args": {"steps": 3}}]
    rsa = {"mask": "importance", "images": 100, "epochs": 1}
    methods += [{"class_path": "RandomSparseAdaptation", "init_args": rsa}]
    few = ("--evaluation.ages_s", json.dumps([86400.0, TEN_YEARS_S]), "--evaluation.methods", json.dumps(methods))
    distilled = ("--model.distillation.temperature", 2, "--model.distillation.weight", 0.5)
    folder = place.tiny("compare", name, *device_keys(**DRIFT["offset"]), *few, *distilled, *_schedule())
    yield from lines_of_rows(folder)
    left_out = ("device_params", "method_params")
    yield from lines_of_csv(folder / "costs.csv", COSTS, left_out)
    yield from lines_of_csv(folder / "timetable.csv", ("network", "method", "start_s"), left_out)


def _schedule() -> tuple[object, ...]:
    few = ("--evaluation.schedule.per_decade", 1, "--evaluation.schedule.youngest_s", 1e6)
    return (*few, "--evaluation.schedule.instances", 2, "--evaluation.schedule.target_percent", 99.9)


def export(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """A bundle with a planned repair, read back, and its network on a chip as the timetable repairs it."""
    methods = [
        {"class_path": "VeraPlus", "init_args": {"steps": 3}},
        {"class_path": "BnStats", "init_args": {"batches": 2}},
    ]
    out, few = place.folder / name / "bundle", ("--evaluation.methods", json.dumps(methods), *_schedule())
    arguments = place.tiny_arguments("export", place.folder / name)
    place.run(*arguments, *device_keys(**options), *few, "--out", out)
    bundle = hwaware.read_bundle(out)
    for layer, targets in bundle.targets.items():
        yield f"targets|{layer}|sha256", hash_of({str(number): one for number, one in enumerate(targets)})
        yield f"targets|{layer}|norm", repr(_norm(targets))
        yield f"scale|{layer}|sha256", hash_of({"scale": bundle.scales[layer]})
        yield f"scale|{layer}|norm", repr(_norm([bundle.scales[layer]]))
    yield "digital|sha256", hash_of(bundle.digital)
    for repair in bundle.repairs:
        of = repair.method.name
        for number, level in enumerate(repair.timetable.levels):
            for what in ("start_s", "mean", "std"):
                yield f"{of}|level {number}|{what}", repr(getattr(level, what))
            yield f"{of}|level {number}|sha256", hash_of(level.state or {})
    network = timm.create_model("tiny_test_net").eval()
    chip = chip_of_bundle(bundle, network)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad(), chip.at(TEN_YEARS_S):
        yield from lines_of_output("chip", network(x))
        for repair in bundle.repairs:
            with repair(chip, TEN_YEARS_S):
                yield from lines_of_output(f"chip|{repair.method.name}", network(x))


for _name in ("differential", "offset_channel_levels", "sliced", "excluded"):
    CASES[f"export_{_name}"] = partial(export, DRIFT[_name])


def sensitivity(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """What each layer loses."""
    folder = place.tiny("sensitivity", name, *device_keys(**options), "--chips", 2)
    yield from lines_of_csv(folder / "sensitivity.csv", ("layer",))


for _name in ("offset", "sliced"):
    CASES[f"sensitivity_{_name}"] = partial(sensitivity, DRIFT[_name])

# Cases: a reader, and cells by themselves.


@case
def reader(place: Workplace, name: str) -> Lines:
    """A tiny reader, finetuned for the device, and repaired in the ways that only readers have."""
    recipe, root = ROOT / "recipes" / "squad2_tiny.yaml", place.folder / name
    few = ("--evaluation.n_chips", 2, "--evaluation.ages_s", json.dumps([0.0, TEN_YEARS_S]))
    device = device_keys(name="reram_cmo", mapping="differential", scale="channel", clamp="window", kappa=2.0)
    arguments = partial(place.reader_arguments, recipe=recipe, checkpoint=place.taught_reader())
    place.run(*arguments("fit", root=root), *device, *few, "--trainer.max_steps", 5)
    folder = _latest(root)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)
    methods = [{"class_path": "LnAffine", "init_args": {"steps": 2}}]
    methods += [{"class_path": "NullThreshold", "init_args": {"chips": 2, "questions": 60}}]
    few = ("--evaluation.n_chips", 1, "--evaluation.ages_s", json.dumps([TEN_YEARS_S]))
    repaired = ("--evaluation.networks", "[base]", "--evaluation.methods", json.dumps(methods))
    place.run(*arguments("compare", root=place.folder / f"{name}_repaired"), *device, *few, *repaired)
    folder = _latest(place.folder / f"{name}_repaired")
    for key, value in lines_of_rows(folder):
        yield f"repaired|{key}", value
    yield from lines_of_csv(folder / "costs.csv", COSTS, ("device_params", "method_params"))


@case
def simulated(place: Workplace, name: str) -> Lines:
    """Readings of every preset's cells."""
    (place.folder / name).mkdir()
    for preset in hwaware.device_names():
        out = place.folder / name / f"{preset}.csv"
        times = ("--times", 0, 60, 86400, TEN_YEARS_S)
        place.run("device", "simulate", preset, "--out", out, "--cells", 60, *times)
        text = out.read_text()
        yield f"{preset}|sha256", hashlib.sha256(text.encode()).hexdigest()
        values = [float(row["conductance_us"]) for row in csv.DictReader(io.StringIO(text))]
        yield f"{preset}|mean conductance", repr(sum(values) / len(values))


@case
def fitted(place: Workplace, name: str) -> Lines:
    """The constants of a device that is fitted to simulated readings."""
    folder = place.folder / name
    folder.mkdir()
    readings, out = folder / "readings.csv", folder / "mine.yaml"
    place.run("device", "simulate", "reram_cmo", "--out", readings, "--cells", 120)
    place.run("device", "fit", readings, "--out", out)
    for key, value in yaml.safe_load(out.read_text()).items():
        if isinstance(value, float) or key == "law":
            yield key, str(value)


# Making, keeping, comparing.


def make(names: Iterable[str], folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each case's lines.

    Raises:
        RuntimeError: a case failed, or has two lines of one key.
    """
    place = Workplace(folder)
    for name in names:
        said, started, lines = io.StringIO(), time.monotonic(), {}
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                for key, value in CASES[name](place, name):
                    if key in lines:
                        raise RuntimeError(f"two lines of case {name} have the key '{key}'")
                    lines[key] = value
        except Exception:
            print(said.getvalue()[-3000:], file=sys.stderr)
            raise
        print(f"{name:32} {len(lines):5} lines {time.monotonic() - started:6.1f} s", file=sys.stderr, flush=True)
        yield name, lines


def make_all(names: list[str], folder: Path, jobs: int) -> dict[str, dict[str, str]]:
    """The same by several processes, each with its share of the cases."""
    if jobs == 1:
        return dict(make(names, folder))
    parts, started = [folder / str(number) / "rows.csv" for number in range(jobs)], []
    for number, part in enumerate(parts):
        if own := [f"--only={name}" for name in names[number::jobs]]:
            command = [sys.executable, __file__, "--jobs", "1", "--out", part, *own]
            started.append(subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL))
    if any([process.wait() for process in started]):
        raise SystemExit("golden_rows: a case failed, see above")
    found = {name: lines for part in parts if part.exists() for name, lines in read(part).items()}
    return {name: found[name] for name in names}


def about() -> dict[str, str]:
    """What results depend on beside the code, and the commit."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True).stdout.strip()

    # The package's own commit: that of this script comes later than what it measures.
    commit = git("log", "-1", "--format=%H", "--", "hwaware")
    return {
        "seed": str(SEED),
        "last commit of hwaware/": commit + ("+" if git("status", "--porcelain", "--", "hwaware") else ""),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "timm": timm.__version__,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


#: Of :func:`about`, what results are bit-equal for.
_MUST_AGREE = ("torch", "processor", "instructions")


def _processor() -> str:
    """Name, family and model, as Linux has them."""
    found = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    names = ("vendor_id", "cpu family", "model", "model name")
    return " ".join(found[name] for name in names if name in found) or platform.processor() or platform.machine()


def read(file: Path) -> dict[str, dict[str, str]]:
    """Lines of each case."""
    found: dict[str, dict[str, str]] = {}
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            found.setdefault(row["case"], {})[row["key"]] = row["value"]
    return found


def write(file: Path, cases: Mapping[str, Mapping[str, str]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("case", "key", "value"))
        writer.writerows((name, key, value) for name, lines in cases.items() for key, value in lines.items())
    with file.with_name("about.csv").open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("what", "value"))
        writer.writerows(about().items())


def read_about(file: Path) -> dict[str, str]:
    """What the file beside a file of rows says; nothing where there is none."""
    path = file.with_name("about.csv")
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as opened:
        return {row["what"]: row["value"] for row in csv.DictReader(opened)}


def differences(wanted: Mapping[str, str], found: Mapping[str, str], exact: bool) -> tuple[list[str], list[str]]:
    """What differs between the lines of a case, and what is only to be told."""
    wrong = [f"{key}: {value} is missing" for key, value in wanted.items() if key not in found]
    wrong += [f"{key}: {value} is new" for key, value in found.items() if key not in wanted]
    told = []
    for key in wanted.keys() & found.keys():
        old, new = wanted[key], found[key]
        if key.endswith("device_params") and old != new:
            before, after = json.loads(old), json.loads(new)
            if lost := sorted(name for name in before if name not in after or after[name] != before[name]):
                now = {name: after.get(name, "missing") for name in lost}
                wrong.append(f"{key}: { ({name: before[name] for name in lost}) } is now {now}")
            if more := sorted(after.keys() - before.keys()):
                told.append(f"{key} also has {', '.join(more)}")
        elif old != new and (exact or not _near(key, old, new)):
            wrong.append(f"{key}: {old} is now {new}")
    return sorted(wrong), told


def _near(key: str, old: str, new: str) -> bool:
    """Whether two values agree but for rounding on another processor."""
    if key.endswith("sha256"):
        return True
    try:
        old_number, new_number = float(old), float(new)
    except ValueError:
        return False
    if key.rpartition("|")[2].rpartition("/")[2] in _PERCENT:
        return abs(old_number - new_number) <= POINTS
    return math.isclose(old_number, new_number, rel_tol=RELATIVE, abs_tol=RELATIVE)


def check(file: Path, names: list[str], folder: Path, jobs: int) -> int:
    """Makes cases anew and prints how they compare; returns how many differ."""
    wanted, here, there = read(file), about(), read_about(file)
    other = [what for what in _MUST_AGREE if here[what] != there.get(what)]
    for what in other:
        print(f"another {what}: {there.get(what, 'unknown')} there, {here[what]} here")
    if other:
        print(f"so that only numbers are compared: {POINTS:g} points of a percentage, {100 * RELATIVE:g} % of others")
    differ = 0
    for name, lines in make_all(names, folder, jobs).items():
        if name not in wanted:
            print(f"{name}: not in {file}")
            differ += 1
            continue
        wrong, told = differences(wanted[name], lines, exact=not other)
        print(f"{name}: {f'{len(wrong)} of {len(wanted[name])} lines differ' if wrong else 'equal'}", flush=True)
        for line in (*told, *wrong[:_SHOWN]):
            print(f"    {line}", flush=True)
        differ += bool(wrong)
    print(f"{differ} of {len(names)} cases differ")
    return differ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDEN, help="file to write")
    parser.add_argument("--check", type=Path, help="a file of rows to compare with; nothing is written then")
    parser.add_argument("--only", action="append", help="a case, or a pattern of cases; may be given again")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--list", action="store_true", help="print the cases")
    options = parser.parse_args()
    patterns = options.only or ["*"]
    names = [name for name in CASES if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if options.list:
        print(*names, sep="\n")
        return 0
    if not names:
        parser.error(f"no case is named {' or '.join(patterns)}: see --list")
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        if options.check:
            return int(check(options.check, names, Path(folder), options.jobs) > 0)
        kept = read(options.out) if options.only and options.out.exists() else {}
        kept |= make_all(names, Path(folder), options.jobs)
        write(options.out, {name: kept[name] for name in [*CASES, *kept] if name in kept})
        print(f"{sum(map(len, kept.values()))} lines of {len(kept)} cases: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
