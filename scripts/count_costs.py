#!/usr/bin/env python
"""Counts what repairs cost for the rows of a comparison that is there, and writes its costs.csv.

    python scripts/count_costs.py --weights resnet20_cifar10.safetensors results/compare_cifar10_resnet20

For rows without a schedule: a set of parameters for each age. Costs follow from the network's layers and the method's
settings; what read-verify-write writes also from the weights, which are those given, on the first reported chip.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from hwaware.cli.explain import subclasses
from hwaware.compensation import Compensation, FitData, Repair
from hwaware.compensation.costs import network_size
from hwaware.evaluation.costs import cost_line
from hwaware.hardware.devices import load_device
from hwaware.nn import convert
from hwaware.results.costs import KEY, NAME, write_costs
from hwaware.results.csv import read_rows
from hwaware.results.provenance import commit
from hwaware.results.setting import group_by, params_of
from hwaware.tasks import ImageClassification


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True)
    arguments = parser.parse_args()

    kinds = {kind.name: kind for kind in subclasses(Compensation) if hasattr(kind, "name")}
    lines = []
    for rows in group_by(read_rows(arguments.folder / "rows.csv"), KEY).values():
        row = rows[0]
        if row.method == "none":
            continue
        task = ImageClassification(row.model, weights=arguments.weights)
        model = task.network.eval()
        params = dict(params_of(row.device_params))
        left_out = params.pop("digital", [])
        device = load_device(row.device, mapping=row.mapping, **params)
        convert(model, device, exclude=left_out)
        images = torch.zeros(1, *task.data_config["input_size"])
        settings = dict(params_of(row.method_params))
        taught = settings.pop("distillation", 0.0)
        settings.pop("distillation_temperature", None)  # costs nothing
        data = FitData(None, lambda n, images=images: (images,), None, task.predict, None, taught)
        method = kinds[row.method](**settings)
        repair = Repair(method, model, device, sorted({one.age_s for one in rows}), data, seed=0)
        now = replace(row, commit=commit(), version=version("hwaware"))
        lines.append(cost_line(now, repair, network_size(model, task.predict, (images,), taught)))
    print(write_costs(arguments.folder / NAME, lines))


if __name__ == "__main__":
    main()
