"""Repairs of aged chips, and the bundles that ship them."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import timm
import torch

import hwaware
from tests.golden.hardware import SETTINGS, chip_of_bundle, device_keys
from tests.golden.lines import Lines, hash_of, lines_of_csv, lines_of_output, lines_of_rows, norm_of
from tests.golden.workplace import SEED, TEN_YEARS_S, Workplace

METHODS = [
    {"class_path": "ChannelAffine", "init_args": {"steps": 3}},
    {"class_path": "BnStats", "init_args": {"batches": 2}},
    {"class_path": "BnAdaBs", "init_args": {"images": 100}},
    {"class_path": "BnFinetune", "init_args": {"images": 100, "epochs": 1, "batch_size": 50}},
    {"class_path": "VeraPlus", "init_args": {"steps": 3}},
    {"class_path": "Dora", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "DoraMagnitude", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "DoraLowRank", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "Lora", "init_args": {"images": 5, "steps": 5}},
    {"class_path": "GlobalDriftCompensation"},
    {"class_path": "ColumnDriftCompensation"},
    {"class_path": "RandomSparseAdaptation", "init_args": {"images": 100, "epochs": 1, "batch_size": 50}},
    {"class_path": "ReadVerifyWrite"},
]
SCHEDULE = ("--evaluation.schedule.per_decade", 1, "--evaluation.schedule.youngest_s", 1e6)
SCHEDULE += ("--evaluation.schedule.instances", 2, "--evaluation.schedule.target_percent", 99.9)


def compare(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """Every repair of networks without layer norms, and what each costs."""
    few = ("--evaluation.ages_s", json.dumps([86400.0, TEN_YEARS_S]), "--evaluation.methods", json.dumps(METHODS))
    folder = place.tiny("compare", name, *device_keys(**options), *few)
    yield from lines_of_rows(folder)
    yield from lines_of_csv(folder / "costs.csv", "network", "method")


def compare_scheduled(place: Workplace, name: str) -> Lines:
    """Repairs with a timetable, learning from the digital network's answers."""
    methods = [{"class_path": "VeraPlus", "init_args": {"steps": 3}}]
    rsa = {"mask": "importance", "images": 100, "epochs": 1}
    methods += [{"class_path": "RandomSparseAdaptation", "init_args": rsa}]
    few = ("--evaluation.ages_s", json.dumps([86400.0, TEN_YEARS_S]), "--evaluation.methods", json.dumps(methods))
    distilled = ("--model.distillation.temperature", 2, "--model.distillation.weight", 0.5)
    folder = place.tiny("compare", name, *device_keys(**SETTINGS["offset"]), *few, *distilled, *SCHEDULE)
    yield from lines_of_rows(folder)
    yield from lines_of_csv(folder / "costs.csv", "network", "method")
    yield from lines_of_csv(folder / "timetable.csv", "network", "method", "start_s")


def export(options: dict[str, Any], place: Workplace, name: str) -> Lines:
    """A bundle with a planned repair, read back, and its network on a chip as the timetable repairs it."""
    methods = [
        {"class_path": "VeraPlus", "init_args": {"steps": 3}},
        {"class_path": "BnStats", "init_args": {"batches": 2}},
    ]
    out, few = place.folder / name / "bundle", ("--evaluation.methods", json.dumps(methods), *SCHEDULE)
    arguments = place.tiny_arguments("export", place.folder / name)
    place.run(*arguments, *device_keys(**options), *few, "--out", out)
    bundle = hwaware.read_bundle(out)
    for layer, targets in bundle.targets.items():
        yield f"targets|{layer}|sha256", hash_of({str(number): one for number, one in enumerate(targets)})
        yield f"targets|{layer}|norm", repr(norm_of(targets))
        yield f"scale|{layer}|sha256", hash_of({"scale": bundle.scales[layer]})
        yield f"scale|{layer}|norm", repr(norm_of([bundle.scales[layer]]))
    yield "digital|sha256", hash_of(bundle.digital)
    for repair in bundle.repairs:
        of = repair.method.name
        for number, level in enumerate(repair.timetable.levels):
            for what in ("start_s", "mean", "std"):
                yield f"{of}|level {number}|{what}", repr(getattr(level, what))
            yield f"{of}|level {number}|sha256", hash_of(level.state or {})
    network = timm.create_model("tiny_test_net").eval()
    chip = chip_of_bundle(bundle, network)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad(), chip.at(TEN_YEARS_S):
        yield from lines_of_output("chip", network(x))
        for repair in bundle.repairs:
            with repair(chip, TEN_YEARS_S):
                yield from lines_of_output(f"chip|{repair.method.name}", network(x))


COMPARED = ("differential", "offset", "sliced", "charan2020")
EXPORTED = ("differential", "offset_channel_levels", "sliced", "excluded")
CASES = {f"compare_{name}": partial(compare, SETTINGS[name]) for name in COMPARED}
CASES |= {"compare_scheduled": compare_scheduled}
CASES |= {f"export_{name}": partial(export, SETTINGS[name]) for name in EXPORTED}
