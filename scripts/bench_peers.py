#!/usr/bin/env python
"""CPU time of a training step here and in IBM's aihwkit-lightning, relative to the same digital step, in one process.

    pip install --no-deps aihwkit-lightning
    python scripts/bench_peers.py --out results/speed/bench_peers.csv        # six minutes on one quiet core

`noise`: Gaussian noise on the weights only (theirs: AddNormal, relative to each array's largest weight; ours: plain
noise, one scale per tensor). `converters`: the same with an 8-bit DAC and ADC and output noise; input ranges are
learned there and calibrated here. `everything`: ours with device noise at a new age for each step, the sinh transform,
and the retention loss, which aihwkit-lightning lacks. Medians over interleaved runs.
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
from hwaware.training import TrainingNoise, install_noise, install_retention, retention_loss

#: Of the weights, over the largest; and of an array's outputs.
NOISE_STD, OUTPUT_NOISE = 0.03, 0.01
BITS = 8
#: As good as no limit: a layer lies in one array.
WHOLE = 1_000_000
#: What its preset of inputs' ranges starts from.
INPUT_RANGE = 3.0
REPEATS = {"linear768_b512": 60, "resnet18_64px_b32": 10, "deit_block_b32": 10, "deit_tiny_b8": 6}
KINDS = ("digital", "noise", "peer_noise", "converters", "peer_converters", "everything")


def ours(model: nn.Module, x: torch.Tensor, kind: str) -> Callable[[], torch.Tensor | float]:
    """Converts a model; returns what each step begins with and adds to the loss."""
    everything = kind == "everything"
    converters = Converters(dac_bits=BITS, adc_bits=BITS, output_noise=OUTPUT_NOISE) if kind == "converters" else None
    about = {"mapping": "differential", "scale": "tensor", "kappa": 2.0 if everything else None}
    convert(model, load_hardware("reram_cmo", **about, rows=WHOLE, converters=converters))
    if converters is not None:
        calibrate(model, lambda network, batch: network(batch), [x])
    if everything:
        install_retention(model, RETENTION)
    noise = NOISE if everything else TrainingNoise(kind="gaussian", std=NOISE_STD)
    return lambda: install_noise(model, noise)


def theirs(model: nn.Module, kind: str) -> nn.Module:
    """The same model converted by aihwkit-lightning."""
    from aihwkit_lightning.nn.conversion import convert_to_analog
    from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig
    from aihwkit_lightning.simulator.parameters.enums import WeightNoiseInjectionType

    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = -1
    config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL
    config.modifier.std_dev = NOISE_STD
    config.pre_post.input_range.enable = kind == "peer_converters"
    if kind == "peer_converters":
        config.pre_post.input_range.init_value = INPUT_RANGE
        config.forward.inp_res = config.forward.out_res = 2**BITS - 2
        config.forward.out_bound = 10.0
        config.forward.out_noise = OUTPUT_NOISE
    return convert_to_analog(model, config, inplace=False)


def training(workload: str, kind: str) -> Callable[[], None]:
    torch.manual_seed(0)
    model, x, loss_of = WORKLOADS[workload]()
    begin: Callable[[], object] = lambda: None  # noqa: E731
    if kind.startswith("peer"):
        model = theirs(model, kind)
    elif kind != "digital":
        begin = ours(model, x, kind)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        begin()
        loss = loss_of(model(x))
        if kind == "everything":
            loss = loss + RETENTION_WEIGHT * retention_loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(workload: str, repeats: int) -> dict[str, str | float]:
    steps = {kind: training(workload, kind) for kind in KINDS}
    for _ in range(3):
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for i in range(repeats):
        for kind in KINDS if i % 2 else KINDS[::-1]:
            times[kind].append(cpu_seconds(steps[kind]))
    ratios = {
        kind: statistics.median(a / d for a, d in zip(times[kind], times["digital"], strict=True)) for kind in KINDS[1:]
    }
    digital_ms = round(1e3 * statistics.median(times["digital"]), 2)
    return {"workload": workload, "digital_ms": digital_ms} | {kind: round(ratio, 3) for kind, ratio in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", action="append", choices=list(REPEATS), help="default: all; may be repeated")
    parser.add_argument("--repeats", type=int, help=f"rounds; default: {REPEATS}")
    parser.add_argument("--out", type=Path, help="CSV file to write, with commit, versions and processor")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for workload in args.workload or REPEATS:
        rows.append(measure(workload, args.repeats or REPEATS[workload]))
        print(rows[-1])
    if args.out:
        about = {
            "commit": commit(),
            "version": version("hwaware"),
            "aihwkit_lightning": version("aihwkit-lightning"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cpu": processor(),
        }
        write_csv(args.out, rows[0] | about, ((row | about).values() for row in rows))
        print(f"Written to {args.out}")


if __name__ == "__main__":
    main()
