#!/usr/bin/env python
"""On a GPU: time, memory and kernel launches that hardware-aware training adds to a step, and the costs of a chip.

    scripts/bench_gpu.py [--repeats 30] [--out results/speed/bench_gpu.csv]

A step is as in ``bench_step.py`` with everything on, in bf16 autocast, batch 128, 224 × 224 pixels; the weights are
computed in each of the ways that training supports. Steps with and without alternate. Times are wall-clock times, from
one idle state of the GPU to the next, as medians over pairs. ``launches_per_layer`` is the number of additional kernel
launches of a step with everything on, per layer in cells, forward and backward together. The chip holds a ResNet-50; it
is programmed, and read at ten years.

Prints one JSON line per workload.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import timm
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hwaware.chip import Chip
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit
from hwaware.training import WAYS, WeightsTogether, install_noise, install_retention, retention_loss
from scripts.bench_step import NOISE, RETENTION, RETENTION_WEIGHT

NETWORKS = {"resnet50": "resnet50", "deit_tiny": "deit_tiny_patch16_224"}
BATCH = 128


def make_step(network: str, way: str | None) -> tuple[Callable[[], None], int]:
    """A training step of its own model, and how many layers lie in cells."""
    torch.manual_seed(0)
    model = timm.create_model(NETWORKS[network]).cuda().train()
    images = torch.randn(BATCH, 3, 224, 224, device="cuda")
    labels = torch.randint(1000, (BATCH,), device="cuda")
    together = None
    if way:
        convert(model, load_hardware("reram_cmo", mapping="differential", scale="tensor", kappa=2.0))
        install_retention(model, RETENTION)
        together = None if way == "by_layer" else WeightsTogether(model, way == "compiled")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        if way:
            install_noise(model, NOISE)
        if together:
            together()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        if way:
            loss = loss + RETENTION_WEIGHT * retention_loss(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, len(analog_layers(model))


def seconds(call: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(network: str, way: str | None) -> int:
    """Most bytes in use at once, from building the model to the end of the third step."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step, _ = make_step(network, way)
    for _ in range(3):
        step()
    return torch.cuda.max_memory_allocated() - before


def launches(step: Callable[[], None]) -> int:
    """Kernels that a step launches."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    kinds = torch.autograd.DeviceType.CUDA
    copies = ("Memcpy", "Memset")
    events = [e for e in profiler.events() if e.device_type == kinds and not e.name.startswith(copies)]
    return len(events)


def training(network: str, repeats: int, way: str) -> dict[str, str | float]:
    memory = {one: peak_bytes(network, one) for one in (None, way)}
    (digital, _), (analog, layers) = make_step(network, None), make_step(network, way)
    for _ in range(5):
        digital(), analog()
    pairs = []
    for i in range(repeats):
        if i % 2:
            pairs.append((seconds(digital), seconds(analog)))
        else:
            pairs.append((seconds(analog), seconds(digital))[::-1])
    return {
        "workload": f"{network}_b{BATCH}_bf16",
        "way": way,
        "ratio_time": round(statistics.median(a / d for d, a in pairs), 4),
        "ratio_memory": round(memory[way] / memory[None], 4),
        "digital_ms": round(1e3 * statistics.median(d for d, _ in pairs), 2),
        "analog_ms": round(1e3 * statistics.median(a for _, a in pairs), 2),
        "launches_per_layer": round((launches(analog) - launches(digital)) / layers, 2),
    }


def chip(repeats: int) -> dict[str, str | float]:
    torch.manual_seed(0)
    model = timm.create_model("resnet50").cuda().eval()
    convert(model, load_hardware("reram_cmo", mapping="differential"))
    images = torch.randn(256, 3, 224, 224, device="cuda")
    ageing, scoring = [], []
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for seed in range(repeats):
            torch.cuda.synchronize()
            start = time.perf_counter()
            with Chip.program(model, seed).at(315_360_000.0):
                torch.cuda.synchronize()
                ageing.append(time.perf_counter() - start)
                scoring.append(seconds(lambda: model(images)))
    return {
        "workload": "resnet50_chip",
        "age_ms": round(1e3 * statistics.median(ageing), 2),
        "score_256_images_ms": round(1e3 * statistics.median(scoring), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=30, help="pairs of steps")
    parser.add_argument("--out", type=Path, help="CSV file to write, with commit and versions")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("No GPU here: torch.cuda.is_available() is false")
    rows = [training(network, options.repeats, way) for way in WAYS for network in NETWORKS]
    rows.append(chip(7))
    about = {"commit": commit(), "version": version("hwaware"), "torch": torch.__version__}
    about |= {"python": platform.python_version(), "gpu": torch.cuda.get_device_name()}
    for row in rows:
        print(json.dumps(row), flush=True)
    if options.out:
        columns = list(dict.fromkeys(key for row in rows for key in row)) + list(about)
        write_csv(options.out, columns, ([(row | about).get(c, "") for c in columns] for row in rows))


if __name__ == "__main__":
    main()
