#!/usr/bin/env python
"""Accuracy against the share r of the conductance window in use, for κ = 1, 2, 3 and a linear cell.

    python scripts/sweep_range.py --weights resnet20_cifar10.safetensors --data cifar10 --out results/range_sweep

The pretrained network without any finetuning, told about the cell's curve ("base") and not ("base_uncorrected"), just
written and at ten years, on a fixed stratified subset of the test images. Writes rows.csv and a plot per age.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial
from pathlib import Path

import torch
from rich.progress import track

from hwaware.chip import CHIP_SEED_START
from hwaware.data import ImageData
from hwaware.evaluation.batches import Batches
from hwaware.evaluation.evaluate import evaluate
from hwaware.hardware.devices import load_device
from hwaware.nn import convert
from hwaware.report.sweep_plots import plot_range_sweep
from hwaware.results.csv import write_rows
from hwaware.results.row import RunLabels
from hwaware.tasks import ImageClassification

AGES_S = (0.0, 315_360_000.0)
RANGES = (0.125, 0.25, 0.5, 0.75, 1.0)
KAPPAS = (None, 1.0, 2.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20_cifar")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--mapping", default="differential")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--chips", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    task = ImageClassification(arguments.model, weights=arguments.weights)
    network = task.network.eval()
    data = ImageData(path=arguments.data, source="parquet", test_subset=arguments.images, eval_batch_size=100)
    data.inputs = task.inputs
    data.setup("test")
    batches = Batches(data, "test", torch.device("cpu"))
    score = partial(task.score, batches=batches)
    base_digital = score(network)
    rows = []
    grid = [(kappa, r, corrected) for kappa in KAPPAS for r in RANGES for corrected in (True, False)]
    for kappa, r, corrected in track([point for point in grid if point[0] or point[2]], description="sweeping"):
        device = load_device("reram_cmo", mapping=arguments.mapping, kappa=kappa, range_fraction=r)
        model = copy.deepcopy(network)
        convert(model, device, corrected=corrected)
        labels = RunLabels(
            recipe="range_sweep",
            model=arguments.model,
            network="base" if corrected else "base_uncorrected",
            dataset=data.dataset_name,
            seed=0,
        )
        rows += evaluate(
            model,
            device,
            score=score,
            base_digital=base_digital,
            n_samples=batches.n_samples,
            labels=labels,
            ages_s=AGES_S,
            chip_seeds=range(CHIP_SEED_START, CHIP_SEED_START + arguments.chips),
        )
    rows = [row for row in rows if row.metric == "top1"]
    write_rows(arguments.out / "rows.csv", rows)
    for age_s in AGES_S:
        print(plot_range_sweep(rows, arguments.out / f"range_{age_s:.0f}s.png", age_s))


if __name__ == "__main__":
    main()
