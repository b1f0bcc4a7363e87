#!/usr/bin/env python
"""Accuracy against the share r of the input voltage range in use, where the cell's curve acts on the voltage.

    python scripts/sweep_input_range.py --weights resnet20_cifar10.safetensors --data cifar10 \\
        --out results/input_range_sweep

The pretrained network without any finetuning, with 8-bit converters, cells whose current is a sinh of the voltage, and
output noise of 0.4 % of the full scale (as in IBM's aihwkit: 0.04 in outputs that are bound to 10). A wide range bends
large inputs, a narrow one drowns the output in noise and the ADC's step. Just written, at one hour and at ten years, on
a fixed stratified subset of the test images. Writes rows.csv and a plot.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.progress import track

from hwaware.chip import CHIP_SEED_START
from hwaware.data import ImageData
from hwaware.evaluation.batches import Batches
from hwaware.evaluation.evaluate import evaluate
from hwaware.hardware.devices import load_device
from hwaware.nn import Converters, convert, ranges_of, set_ranges
from hwaware.report.sweep_plots import plot_input_range_sweep
from hwaware.results.csv import write_rows
from hwaware.results.row import RunLabels
from hwaware.tasks import DeviceOptions, ImageClassification

AGES_S = (0.0, 3600.0, 315_360_000.0)
RANGES = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
CONVERTERS = Converters(dac_bits=8, adc_bits=8, output_noise=0.004)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20_cifar")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--mapping", default="differential")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--kappa", type=float, default=2.0, help="of the curve in the voltage")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    device = load_device("reram_cmo", mapping=arguments.mapping, kappa=None)
    options = DeviceOptions("reram_cmo", mapping=arguments.mapping, kappa="linear")
    task = ImageClassification(arguments.model, weights=arguments.weights, device=options, converters=CONVERTERS)
    data = ImageData(
        path=arguments.data,
        source="parquet",
        train_rows=(0, 45_000),
        val_rows=(45_000, 50_000),
        test_subset=arguments.images,
        eval_batch_size=100,
    )
    data.inputs = task.inputs
    task.calibrate(task.network, data)  # on validation images, once: the ranges are those of the exact network
    data.setup("test")
    batches = Batches(data, "test", torch.device("cpu"))
    score = partial(task.score, batches=batches)
    base = task.build_network().eval()
    base_digital, rows = score(base), []
    for r in track(RANGES, description="sweeping"):
        model = copy.deepcopy(base)
        convert(model, device, converters=replace(CONVERTERS, input_kappa=arguments.kappa, input_range=r))
        set_ranges(model, ranges_of(task.network))
        measured = evaluate(
            model,
            device,
            score=score,
            base_digital=base_digital,
            n_samples=batches.n_samples,
            labels=RunLabels("input_range_sweep", arguments.model, "base", data.dataset_name, seed=0),
            ages_s=AGES_S,
            chip_seeds=range(CHIP_SEED_START, CHIP_SEED_START + arguments.chips),
        )
        rows += [row for row in measured if row.metric == "top1"]
        write_rows(arguments.out / "rows.csv", rows)
    print(plot_input_range_sweep(rows, arguments.out / "plots" / "accuracy_over_input_range.png"))


if __name__ == "__main__":
    main()
