#!/usr/bin/env python
"""Costs of fitting repairs: a VeRA+ step, a DoRA calibration, and the share of a comparison that simulates chips.

    python scripts/bench_compensation.py [--repeats 15] [--out results/speed/bench_compensation.csv]

ResNet-20 for CIFAR with random weights (time does not depend on them), `reram_cmo`, `differential`. Prints one JSON
line:

vera_step_ratio    one VeRA+ training step on a fresh chip (programming, ageing, forward, backward, Adam), relative to
                   one digital forward and backward pass without weight gradients; batch 128
affine_step_ratio  the same for the channel affine
dora_cpu_s         calibration of one chip with DoRA, rank 1, on ten images
chip_share         share of programming and ageing in the time to program, age and score a chip on 2,000 images

Medians of CPU time of one thread; the two steps of a ratio alternate in one process.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

import timm
import torch
import torch.nn.functional as F
from torch import nn

import hwaware.models  # noqa: F401 - registers resnet20_cifar
from hwaware.chip import Chip
from hwaware.compensation import ChannelAffine, Dora, FitData, OfflineCompensation, VeraPlus
from hwaware.compensation.access import frozen
from hwaware.hardware import load_hardware
from hwaware.nn import convert
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit

TEN_YEARS_S = 315_360_000.0
STEPS = 5  # timed together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, help="CSV file to write, with commit and versions")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)  # a second thread's waiting would count as CPU time
    digital = timm.create_model("resnet20_cifar").eval()
    model, hardware = copy.deepcopy(digital), load_hardware("reram_cmo", mapping="differential")
    convert(model, hardware)
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))

    def training(seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield images, labels

    data = FitData(
        training=training,
        calibration=lambda n: (images[:n], labels[:n]),
        loss=lambda network, batch: F.cross_entropy(network(batch[0]), batch[1]),
        predict=lambda network, batch: network(batch[0]),
        accuracy=lambda network: 0.0,
        divergence=lambda output, exact: (output - exact).square().mean(),
    )
    base, vera, affine, dora, making, scoring = [], [], [], [], [], []
    for _ in range(arguments.repeats):
        base.append(_timed(lambda: [_digital_step(digital, images, labels) for _ in range(STEPS)]) / STEPS)
        for method, times in ((VeraPlus, vera), (ChannelAffine, affine)):
            times.append(_step_s(method, model, data))
    for seed in range(max(1, arguments.repeats // 3)):
        chip = Chip.program(model, seed)
        dora.append(_timed(lambda chip=chip: Dora(images=10).fit(chip, TEN_YEARS_S, data)))
        with torch.no_grad():
            making.append(_timed(lambda seed=seed: _age(model, seed)))
            scoring.append(_timed(lambda: [model(images) for _ in range(16)]) * 2000 / (16 * len(images)))
    result = {
        "workload": "resnet20_cifar",
        "vera_step_ratio": round(median(one / other for one, other in zip(vera, base, strict=True)), 3),
        "affine_step_ratio": round(median(one / other for one, other in zip(affine, base, strict=True)), 3),
        "dora_cpu_s": round(median(dora), 2),
        "chip_share": round(median(making) / (median(making) + median(scoring)), 4),
        "commit": commit(),
        "version": version("hwaware"),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    if arguments.out:
        write_csv(arguments.out, result, [result.values()])
    print(json.dumps(result))


def _timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def _digital_step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    with frozen(network):
        images = images.clone().requires_grad_(True)
        F.cross_entropy(network(images), labels).backward()


def _step_s(kind: type[OfflineCompensation], model: nn.Module, data: FitData) -> float:
    """One training step: what more steps of a fit take, so that its start does not count."""
    few, many = (
        _timed(lambda steps=steps: kind(steps=steps).fit(model, (TEN_YEARS_S, TEN_YEARS_S), data, 0, {}))
        for steps in (1, 1 + STEPS)
    )
    return (many - few) / STEPS


def _age(model: nn.Module, seed: int) -> None:
    with Chip.program(model, seed).at(TEN_YEARS_S):
        pass


if __name__ == "__main__":
    main()
