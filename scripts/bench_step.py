#!/usr/bin/env python
"""CPU time and peak memory of a hardware-aware training step, relative to the same digital step.

    scripts/bench_step.py                                    # all workloads, three to six minutes
    scripts/bench_step.py --workload linear768_b512 --repeats 200 --out results/speed/bench_step.csv

A step is forward, loss, backward, optimiser (SGD, momentum 0.9) and zero_grad. "Everything on" is `reram_cmo` with the
`differential` mapping, one scale per tensor, κ = 2; device noise at an age drawn for each step, log-uniform from one
second to ten years (so that the table is computed in every step, and counted); and the retention loss at one hour, one
year and ten years.

Time: both steps alternate in one process; `ratio_cpu` is the median over pairs of the ratio of process CPU times (all
threads; one thread by default, since a second one that spins while it waits counts as busy). On a shared machine, the
ratio of the tenth percentiles (`ratio_cpu_p10` in the table and CSV) is closer to that of a quiet one. Memory:
`ratio_mem` is the ratio of peak live bytes of torch's CPU allocator, by torch's memory profiler, from building the
model to the end of the third step: parameters, gradients, momentum, activations, the noise's pool and tables.

Prints a table, and then one JSON line per workload.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from hwaware.hardware import load_hardware
from hwaware.nn import convert
from hwaware.nn.weights import gaussian
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit, processor
from hwaware.training import (
    WAYS,
    RetentionLoss,
    TrainingNoise,
    Way,
    install_noise,
    install_retention,
    install_way,
    retention_loss,
)
from hwaware.training import noise as training_noise

NOISE = TrainingNoise(kind="device")  # its default ages are log-uniform from 1 s to 10 years
RETENTION = RetentionLoss(ages_s=(3600.0, 31_536_000.0, 315_360_000.0))
RETENTION_WEIGHT = 0.1
MEMORY_STEPS = 3

Case = tuple[nn.Module, Tensor, Callable[[Tensor], Tensor]]


def linear768_b512() -> Case:
    return nn.Linear(768, 768), torch.randn(512, 768), lambda y: y.square().mean()


def resnet18_64px_b32() -> Case:
    import timm

    labels = torch.randint(1000, (32,))
    return timm.create_model("resnet18"), torch.randn(32, 3, 64, 64), lambda y: F.cross_entropy(y, labels)


def deit_block_b32() -> Case:
    from timm.models.vision_transformer import Block

    return Block(192, num_heads=3, qkv_bias=True), torch.randn(32, 197, 192), lambda y: y.square().mean()


def deit_tiny_b8() -> Case:
    import timm

    labels = torch.randint(1000, (8,))
    model = timm.create_model("deit_tiny_patch16_224")
    return model, torch.randn(8, 3, 224, 224), lambda y: F.cross_entropy(y, labels)


def encoder_6x384_b16() -> Case:
    from transformers import BertConfig, BertForQuestionAnswering

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    spans = torch.randint(128, (2, 16))

    def loss_of(output: object) -> Tensor:
        return F.cross_entropy(output.start_logits, spans[0]) + F.cross_entropy(output.end_logits, spans[1])

    return BertForQuestionAnswering(config), torch.randint(config.vocab_size, (16, 128)), loss_of


WORKLOADS = {
    f.__name__: f for f in (linear768_b512, resnet18_64px_b32, deit_block_b32, deit_tiny_b8, encoder_6x384_b16)
}
#: First bar and stretch goal for ratio_cpu.
BARS = {
    "linear768_b512": (1.35, 1.20),
    "resnet18_64px_b32": (1.20, 1.10),
    "deit_block_b32": (1.02, 1.01),
    "deit_tiny_b8": (1.06, 1.03),
    "encoder_6x384_b16": (1.05, 1.02),
}
REPEATS = {
    "linear768_b512": 300,
    "resnet18_64px_b32": 30,
    "deit_block_b32": 40,
    "deit_tiny_b8": 20,
    "encoder_6x384_b16": 20,
}


def make_step(workload: str, analog: bool, way: Way = "by_layer") -> Callable[[], None]:
    """A training step of its own model; the same start and data for both."""
    torch.manual_seed(0)
    model, x, loss_of = WORKLOADS[workload]()
    model.train()
    if analog:
        convert(model, load_hardware("reram_cmo", mapping="differential", scale="tensor", kappa=2.0))
        install_retention(model, RETENTION)
        at_once = install_way(model, way)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        if analog:
            install_noise(model, NOISE)
            if at_once is not None:
                at_once()
        loss = loss_of(model(x))
        if analog:
            loss = loss + RETENTION_WEIGHT * retention_loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peak_bytes(workload: str, analog: bool, way: Way) -> int:
    """Most bytes alive at once, from building the model to the end of the last step."""
    gaussian.clear_pool()
    training_noise.noise_table.cache_clear()
    gc.collect()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = make_step(workload, analog, way)
        for _ in range(MEMORY_STEPS):
            step()
    del step
    alive = peak = 0
    memory = (e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(memory, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def cpu_seconds(step: Callable[[], None]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def measure(workload: str, repeats: int, way: Way, console: Console) -> dict[str, str | float]:
    memory = {analog: peak_bytes(workload, analog, way) for analog in (False, True)}
    digital, analog = (make_step(workload, kind, way) for kind in (False, True))
    for _ in range(3):
        digital(), analog()
    pairs = []
    for i in track(range(repeats), description=workload, console=console, transient=True):
        # Either goes first in turn: the second finds a warmer machine.
        if i % 2:
            pairs.append((cpu_seconds(digital), cpu_seconds(analog)))
        else:
            pairs.append((cpu_seconds(analog), cpu_seconds(digital))[::-1])
    ratios = sorted(a / d for d, a in pairs)
    return {
        "workload": workload,
        "ratio_cpu": round(statistics.median(ratios), 4),
        "ratio_mem": round(memory[True] / memory[False], 4),
        "ratio_cpu_p10": round(tenth(a for _, a in pairs) / tenth(d for d, _ in pairs), 4),
        "ratio_cpu_p25": round(ratios[len(ratios) // 4], 4),
        "ratio_cpu_p75": round(ratios[3 * len(ratios) // 4], 4),
        "digital_cpu_ms": round(1e3 * statistics.median(d for d, _ in pairs), 3),
        "analog_cpu_ms": round(1e3 * statistics.median(a for _, a in pairs), 3),
        "digital_peak_mb": round(memory[False] / 1e6, 2),
        "analog_peak_mb": round(memory[True] / 1e6, 2),
    }


def tenth(seconds: Iterable[float]) -> float:
    """Tenth percentile."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 10]


def table_of(rows: list[dict]) -> Table:
    table = Table(title="Training step with everything on, relative to digital")
    table.add_column("workload", no_wrap=True)
    for column in ("CPU time", "p10", "bar, stretch", "CPU ms", "memory", "peak MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for r in rows:
        table.add_row(
            r["workload"],
            f"{r['ratio_cpu']:.3f}",
            f"{r['ratio_cpu_p10']:.3f}",
            "{:.2f}, {:.2f}".format(*BARS[r["workload"]]),
            f"{r['digital_cpu_ms']:.1f} → {r['analog_cpu_ms']:.1f}",
            f"{r['ratio_mem']:.3f}",
            f"{r['digital_peak_mb']:.0f} → {r['analog_peak_mb']:.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS), help="default: all; may be repeated")
    parser.add_argument("--repeats", type=int, help=f"pairs of steps; default: {REPEATS}")
    parser.add_argument("--way", choices=WAYS, default="by_layer", help="how the weights in cells are computed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="CSV file to write, with commit and versions")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=None if sys.stdout.isatty() else 100)

    rows = []
    for workload in args.workload or WORKLOADS:
        rows.append(measure(workload, args.repeats or REPEATS[workload], args.way, console))
    console.print(table_of(rows))
    if args.out:
        about = {"way": args.way, "threads": args.threads, "commit": commit(), "version": version("hwaware")}
        about |= {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cpu": processor(),
        }
        write_csv(args.out, rows[0] | about, ((row | about).values() for row in rows))
        console.print(f"Written to {args.out}")
    for row in rows:
        print(json.dumps({key: row[key] for key in ("workload", "ratio_cpu", "ratio_mem")}))


if __name__ == "__main__":
    main()
