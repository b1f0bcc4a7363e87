#!/usr/bin/env python
"""Accuracy of a network, and of its bundle as read by hwaware and by examples/read_bundle.py, on the same samples.

    hwaware export --config RECIPE … --out bundle
    python scripts/check_bundle.py bundle --samples 500 --config RECIPE …     # the same options, without --out

The example's weights are put into the digital network, without cells or converters. An aged chip is evaluated twice as
well: with the network's own weights, and with the weights that were read back.
"""

from __future__ import annotations

import argparse
import runpy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip, drift_free
from hwaware.cli.build import build
from hwaware.cli.local_modules import local_modules
from hwaware.cli.parser import parse
from hwaware.cli.settings import read_settings
from hwaware.commands import load
from hwaware.commands.steps import set_up_alone
from hwaware.evaluation.batches import Batches
from hwaware.export.bundle import read_bundle

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--samples", type=int, default=500, help="of the test set, the first ones")
    parser.add_argument("--age_s", type=float, default=315_360_000.0, help="of the chip")
    options, recipe = parser.parse_known_args()

    with local_modules(read_settings(recipe)):
        run = load("fit")
        built = build(run, *parse("fit", run, recipe))
    task, data = built["task"], built["datamodule"]
    set_up_alone(built["trainer"], task, data)
    data.prepare_data()
    data.setup("test")
    batches = Batches(data, "test", torch.device("cpu"))
    kept: list[Any] = []
    for batch in batches:
        left = options.samples - sum(len(one[0]) for one in kept)
        if left <= 0:
            break
        kept.append([part[:left] for part in batch])
    print(f"{sum(len(batch[0]) for batch in kept)} samples of {batches.n_samples}")

    def score(network: nn.Module) -> str:
        with torch.no_grad():
            return f"{next(iter(task.score(network, kept).values())):.4f} %"

    exported, read = task.build_network().float().eval(), task.build_network().float().eval()
    print(f"digital                          {score(exported)}")
    task.convert(exported, task.placement)
    task.calibrate(exported.eval(), data)
    read_bundle(options.bundle).install(read)
    for name, network in {"in cells": exported, "read back": read}.items():
        with drift_free(network.eval()):
            print(f"{name:<14} exact             {score(network)}")
        with Chip.program(network, CHIP_SEED_START).at(options.age_s):
            print(f"{name:<14} chip at {options.age_s:9g} {score(network)}")
    print(f"read back by the example         {score(by_example(options.bundle, task.build_network().float()))}")


def by_example(folder: Path, network: nn.Module) -> nn.Module:
    """The digital network with the bundle's weights, as the example reads them."""
    bundle: Any = runpy.run_path(str(ROOT / "examples" / "read_bundle.py"))["Bundle"](folder)
    state = {key: value for key, value in load_file(folder / "digital.safetensors").items() if "/" not in key}
    names: Iterable[str] = bundle.manifest["layers"]
    state |= {f"{name}.weight": torch.from_numpy(bundle.weight(name)).float() for name in names}
    network.load_state_dict(state)
    return network.eval()


if __name__ == "__main__":
    main()
