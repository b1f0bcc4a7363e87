"""A network that reads."""

from __future__ import annotations

import json
from functools import partial

from tests.golden.hardware import device_keys
from tests.golden.lines import Lines, lines_of_csv, lines_of_losses, lines_of_rows, lines_of_weights
from tests.golden.workplace import ROOT, TEN_YEARS_S, Workplace, latest


def reader(place: Workplace, name: str) -> Lines:
    """A tiny reader, finetuned for the device, and repaired in the ways that only readers have."""
    recipe, root = ROOT / "recipes" / "squad2_tiny.yaml", place.folder / name
    few = ("--evaluation.n_chips", 2, "--evaluation.ages_s", json.dumps([0.0, TEN_YEARS_S]))
    device = device_keys(name="reram_cmo", mapping="differential", scale="channel", clamp="window", kappa=2.0)
    arguments = partial(place.reader_arguments, recipe=recipe, checkpoint=place.taught_reader())
    place.run(*arguments("fit", root=root), *device, *few, "--trainer.max_steps", 5)
    folder = latest(root)
    yield from lines_of_losses(folder)
    yield from lines_of_weights(folder)
    yield from lines_of_rows(folder)
    methods = [{"class_path": "LnAffine", "init_args": {"steps": 2}}]
    methods += [{"class_path": "NullThreshold", "init_args": {"chips": 2, "questions": 60}}]
    few = ("--evaluation.n_chips", 1, "--evaluation.ages_s", json.dumps([TEN_YEARS_S]))
    repaired = ("--evaluation.networks", "[base]", "--evaluation.methods", json.dumps(methods))
    place.run(*arguments("compare", root=place.folder / f"{name}_repaired"), *device, *few, *repaired)
    folder = latest(place.folder / f"{name}_repaired")
    for key, value in lines_of_rows(folder):
        yield f"repaired|{key}", value
    yield from lines_of_csv(folder / "costs.csv", "network", "method")


CASES = {"reader": reader}
