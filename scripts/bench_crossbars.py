#!/usr/bin/env python
"""CPU time that converters and arrays add to a training step, and arrays to an evaluation.

    scripts/bench_crossbars.py --out results/speed/bench_crossbars.csv        # five minutes on one quiet core

A step is that of scripts/bench_step.py with everything on: alone (`alone`), with an 8-bit DAC and ADC and output noise
for whole layers (`converters`), and for arrays of 256 rows (`arrays`): medians over interleaved runs of the ratio to
the digital step. `evaluation` is the ratio of a forward pass in arrays of 256 rows to one of whole layers, both with
converters and the exact weights.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from bench_step import NOISE, RETENTION, RETENTION_WEIGHT, WORKLOADS, cpu_seconds
from torch import nn

from hwaware.hardware import Converters, load_hardware
from hwaware.nn import calibrate, convert
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit, processor
from hwaware.training import install_noise, install_retention, retention_loss

CONVERTERS = Converters(dac_bits=8, adc_bits=8, output_noise=0.01)
ROWS = 256
#: As good as no limit: a layer lies in one array.
WHOLE = 1_000_000
REPEATS = {"linear768_b512": 60, "resnet18_64px_b32": 12, "deit_block_b32": 12, "deit_tiny_b8": 8}


def build(workload: str, kind: str) -> tuple[nn.Module, torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """A workload's model, its batch, and the loss of its output."""
    torch.manual_seed(0)
    model, x, loss_of = WORKLOADS[workload]()
    if kind != "digital":
        rows = ROWS if kind == "arrays" else WHOLE
        converters = None if kind == "alone" else CONVERTERS
        about = {"mapping": "differential", "scale": "tensor", "kappa": 2.0}
        convert(model, load_hardware("reram_cmo", **about, rows=rows, converters=converters))
        calibrate(model, lambda network, batch: network(batch), [x])
    return model, x, loss_of


def training(workload: str, kind: str) -> Callable[[], None]:
    model, x, loss_of = build(workload, kind)
    model.train()
    if kind != "digital":
        install_retention(model, RETENTION)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        if kind != "digital":
            install_noise(model, NOISE)
        loss = loss_of(model(x))
        if kind != "digital":
            loss = loss + RETENTION_WEIGHT * retention_loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def evaluation(workload: str, kind: str) -> Callable[[], None]:
    model, x, _ = build(workload, kind)
    model.eval()

    def run() -> None:
        with torch.no_grad():
            model(x)

    return run


def ratios(runs: dict[str, Callable[[], None]], repeats: int) -> tuple[dict[str, float], float]:
    """Medians of CPU times over those of the first, and the first's own median (ms)."""
    for run in runs.values():
        run(), run()
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(repeats):
        for kind, run in runs.items():
            seconds[kind].append(cpu_seconds(run))
    first, *others = runs
    pairs = {kind: zip(seconds[kind], seconds[first], strict=True) for kind in others}
    found = {kind: round(statistics.median(a / b for a, b in pair), 3) for kind, pair in pairs.items()}
    return found, round(1e3 * statistics.median(seconds[first]), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", action="append", choices=list(REPEATS), help="default: all; may be repeated")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for workload in options.workload or REPEATS:
        kinds = ("digital", "alone", "converters", "arrays")
        steps, digital_ms = ratios({kind: training(workload, kind) for kind in kinds}, REPEATS[workload])
        passes, _ = ratios({kind: evaluation(workload, kind) for kind in kinds[2:]}, REPEATS[workload])
        lines.append({"workload": workload, "digital_ms": digital_ms, **steps, "evaluation": passes["arrays"]})
        print(lines[-1], flush=True)
    about = {"rows": ROWS, "commit": commit(), "version": version("hwaware"), "torch": torch.__version__}
    about |= {"python": platform.python_version(), "cpu": processor()}
    write_csv(options.out, lines[0] | about, ((line | about).values() for line in lines))


if __name__ == "__main__":
    main()
