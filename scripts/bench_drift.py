#!/usr/bin/env python
"""CPU time to program and age one ResNet18 chip, and of its forward pass relative to the digital one.

    python scripts/bench_drift.py [--repeats 7] [--out results/speed/bench_drift.csv]

Prints one JSON line: ``age_cpu_s`` (programming, drift and one read of 11.7 M weights in 23.4 M cells: ``reram_cmo``,
``differential``, ten years), ``draws_cpu_s`` (the part for torch to draw three Gaussians per cell),
``forward_ratio_cpu`` (chip / digital, interleaved). Medians of CPU time of all threads.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import timm
import torch

from hwaware.chip import Chip
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="CSV file to write, with commit and versions")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)  # a second thread's waiting would count as CPU time
    digital = timm.create_model("resnet18", num_classes=1000).eval()
    model = copy.deepcopy(digital)
    hardware = load_hardware("reram_cmo", mapping="differential")
    convert(model, hardware)
    images = torch.randn(32, 3, 64, 64)

    cells = sum(layer.n_cells for layer in analog_layers(model).values())
    block = torch.empty(65536)  # stays in the cache
    ageing, drawing, chip_forward, digital_forward = [], [], [], []
    with torch.no_grad():
        for seed in range(arguments.repeats):
            start = time.process_time()
            for _ in range(3 * cells // len(block)):  # programming, drift, read noise
                block.normal_()
            drawing.append(time.process_time() - start)
            start = time.process_time()
            chip = Chip.program(model, seed)
            with chip.at(315_360_000.0):
                ageing.append(time.process_time() - start)
                for network, times in ((model, chip_forward), (digital, digital_forward)) * 3:
                    start = time.process_time()
                    network(images)
                    times.append(time.process_time() - start)
    result = {
        "workload": "resnet18_chip",
        "age_cpu_s": round(median(ageing), 3),
        "draws_cpu_s": round(median(drawing), 3),
        "forward_ratio_cpu": round(median(chip_forward) / median(digital_forward), 3),
        "commit": commit(),
        "version": version("hwaware"),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    if arguments.out:
        write_csv(arguments.out, result, [result.values()])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
