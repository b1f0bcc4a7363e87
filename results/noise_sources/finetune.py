#!/usr/bin/env python
"""Does it harm to read training noise from a fixed pool instead of drawing it anew?

    python results/noise_sources/finetune.py --weights model.safetensors --out rows.csv

Finetunes ResNet-20 on scikit-learn's digits with the pool and with torch's own draws, same seeds and batches, and ages
both on the same chips. Networks in the rows: "pool", "fresh".
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track

from hwaware.data import ImageData
from hwaware.evaluation.batches import Batches
from hwaware.evaluation.evaluate import evaluate
from hwaware.hardware import load_hardware
from hwaware.nn import convert
from hwaware.nn.weights.gaussian import fresh_gaussian
from hwaware.report.tables import markdown_table
from hwaware.results.csv import write_rows
from hwaware.results.row import RunLabels
from hwaware.tasks import ImageClassification
from hwaware.training import TrainingNoise, install_noise

SOURCES = {"pool": nullcontext, "fresh": fresh_gaussian}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="ResNet-20 pretrained on digits (recipes/quickstart_pretrain)")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    task = ImageClassification("resnet20_cifar", weights=arguments.weights, num_classes=10)
    data = ImageData(source="digits", batch_size=64)
    data.inputs = task.inputs
    for stage in ("fit", "test"):
        data.setup(stage)
    trains = list(data.train_dataloader())
    tests = Batches(data, "test", torch.device("cpu"))
    score = partial(task.score, batches=tests)
    base_digital = score(task.network.eval())
    hardware = load_hardware("reram_cmo", mapping="differential")
    rows = []
    for seed, source in track([(s, n) for s in range(arguments.seeds) for n in SOURCES], description="finetuning"):
        model = task.build_network()
        convert(model, hardware)
        model.apply(lambda module: module.train(not isinstance(module, torch.nn.BatchNorm2d)))  # frozen statistics
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        with SOURCES[source]():
            for step in range(arguments.steps):
                torch.manual_seed(10_000 * seed + step)
                install_noise(model, TrainingNoise())
                images, labels = trains[int(torch.randint(len(trains), ()))]
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # as recipes/quickstart.yaml does
                optimizer.step()
        labels = RunLabels("noise_sources", "resnet20_cifar", source, data.dataset_name, seed)
        rows += evaluate(
            model,
            score=score,
            base_digital=base_digital,
            n_samples=tests.n_samples,
            labels=labels,
            ages_s=[3600.0, 315_360_000.0],
        )
    write_rows(arguments.out, rows)
    print(markdown_table(rows, against="fresh"))


if __name__ == "__main__":
    main()
