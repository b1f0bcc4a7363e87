#!/usr/bin/env python
"""How many sets of VeRA+ vectors a drift-aware schedule needs for each accuracy target.

    python results/schedule_cifar10/plan.py --weights resnet20_cifar10.safetensors --data cifar10 --out folder

Plans the pretrained network's ten years on `reram_cmo` for each target (percent of the drift-free accuracy): mean minus
one standard deviation over ten simulated chips, two ages a decade, on 1,000 validation images; no reported chip or
image is used. The public CIFAR weights have seen those images, so that accuracies are too high there, and sets rather
too few. Writes timetable.csv (a line per drift level) and sets.png; what is there is not planned again.
"""

from __future__ import annotations

import argparse
import csv
import json
from importlib.metadata import version
from itertools import product
from pathlib import Path

from lightning.pytorch import Trainer
from rich.progress import track

from hwaware.compensation import Schedule, VeraPlus, plan
from hwaware.compensation.costs import network_size
from hwaware.data import ImageData
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.run import Run
from hwaware.hardware import load_hardware
from hwaware.nn import convert
from hwaware.report.plots import plot_sets
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit
from hwaware.tasks import ImageClassification


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet20_cifar")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True, help="folder with train.parquet and test.parquet")
    parser.add_argument("--mapping", action="append", help="default: differential; may be repeated")
    parser.add_argument("--target", type=float, action="append", help="default: 97, 98, 99, 99.5; may be repeated")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    task = ImageClassification(arguments.model, weights=arguments.weights)
    data = ImageData(path=arguments.data, source="parquet", train_rows=(0, 45000), val_rows=(45000, 50000))
    data.inputs = task.inputs
    trainer = Trainer(accelerator="cpu", precision=arguments.precision, logger=False, enable_checkpointing=False)
    learnt, method = fit_data(Run.of(trainer), task, data), VeraPlus()
    path = arguments.out / "timetable.csv"
    lines = list(csv.DictReader(path.open(newline=""))) if path.exists() else []
    there = {(line["mapping"], float(line["target_percent"])) for line in lines}
    wanted = product(arguments.mapping or ["differential"], arguments.target or [97.0, 98.0, 99.0, 99.5])
    for mapping, target in track([one for one in wanted if one not in there], description="planning"):
        hardware = load_hardware("reram_cmo", mapping=mapping)
        model = ImageClassification(arguments.model, weights=arguments.weights).network.eval()
        convert(model, hardware)
        table = plan(method, model, Schedule(target_percent=target), learnt, seed=0)
        size = network_size(model, learnt.predict, learnt.calibration(1), learnt.distillation)
        for level in table.levels:
            lines.append(
                {
                    "model": arguments.model,
                    "mapping": mapping,
                    "device": hardware.device.name,
                    "device_params": json.dumps(hardware.params(), sort_keys=True),
                    "method": method.name,
                    "method_params": method.params,
                    "target_percent": str(target),
                    "start_s": level.start_s,
                    "mean": round(level.mean, 4),
                    "std": round(level.std, 4),
                    "reached": level.reached,
                    "drift_free": round(table.drift_free, 4),
                    "sets": table.n_sets,
                    "bytes_stored": method.cost(size, table.n_sets).bytes_stored,
                    "commit": commit(),
                    "version": version("hwaware"),
                }
            )
        write_csv(path, lines[0], (line.values() for line in lines))
    levels: dict[tuple[str, float], list[dict]] = {}
    for line in lines:
        levels.setdefault((line["mapping"], float(line["target_percent"])), []).append(line)
    curves: dict[str, list[tuple[float, int, bool]]] = {}
    for (mapping, target), own in levels.items():
        reached = all(str(line["reached"]) == "True" for line in own)
        curves.setdefault(mapping, []).append((target, int(own[0]["sets"]), reached))
    settings = f"{lines[0]['device']} · rank {method.rank} and a constant row, {method.bits} bit"
    title = f"{arguments.model}: sets of VeRA+ vectors for ten years", settings
    print(plot_sets(curves, arguments.out / "sets.png", title))


if __name__ == "__main__":
    main()
