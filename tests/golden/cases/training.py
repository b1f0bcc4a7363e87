"""Training in the knowledge of the cells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from typing import Any

from tests.golden.hardware import SETTINGS, device_keys
from tests.golden.lines import Lines, lines_of_losses, lines_of_rows, lines_of_weights
from tests.golden.workplace import AGES_S, ROOT, TEN_YEARS_S, Workplace

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


def train(device: str, options: tuple[object, ...], place: Workplace, name: str) -> Lines:
    """A few steps: every loss, and the weights at the end."""
    short = ("--trainer.max_steps", 4, "--evaluation.networks", "[]")
    folder = place.tiny("fit", name, *device_keys(**SETTINGS[device]), *options, *short)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)


def train_uncorrected(place: Workplace, name: str) -> Lines:
    """Training without pre-distortion for the cells' curve, and what that gives on chips."""
    device = device_keys(**SETTINGS["differential"], corrected=False)
    few = ("--trainer.max_steps", 4, "--evaluation.networks", "[finetuned]")
    folder = place.tiny("fit", name, *device, *_noise(NOISE), *few)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)


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
    device = device_keys(**SETTINGS["differential"])
    run("fit", "--config", recipes / "quickstart.yaml", *common, *weights, *device, *few, "--trainer.max_steps", 4)
    folder = root / "quickstart" / "version_0"
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)


def bias(place: Workplace, name: str) -> Lines:
    """Mapping-aware biased training, and its network on chips whose states vary."""
    few = ("--evaluation.networks", "[base, finetuned]", "--evaluation.ages_s", "[0]", "--trainer.max_epochs", 2)
    settings = ("--model.bias.percent", 50, "--evaluation.finetuned_as", "biased")
    folder = place.tiny("fit", name, *device_keys(**SETTINGS["sliced_fixed"]), *settings, *few)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)


def resume(place: Workplace, name: str) -> Lines:
    """A run in one go, and the same killed after seven steps and resumed: equal weights and rows."""
    options = [*device_keys(**SETTINGS["differential"]), *_noise(NOISE), *RETENTION]
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


CASES = {f"train_{name}": partial(train, device, options) for name, (device, options) in TRAIN.items()}
CASES |= {"train_uncorrected": train_uncorrected, "digits": digits, "bias": bias, "resume": resume}
