#!/usr/bin/env python
"""The files of ``tests/legacy``: what this version writes, for later ones to load.

    python scripts/make_legacy.py --out DIR

Those in ``tests/legacy`` were made at commit a780170. Copy further ones beside them when the files' form changes; never
make those there anew. Half a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["OMP_NUM_THREADS"] = "1"

import timm
import torch
from safetensors.torch import load_file

import hwaware
from hwaware.cli import main as command_line
from tests.legacy import cases

#: Ages at which repairs are planned, few.
SCHEDULE = ("--evaluation.schedule.per_decade", 1, "--evaluation.schedule.youngest_s", 1e7)
SCHEDULE += ("--evaluation.schedule.instances", 2, "--evaluation.schedule.target_percent", 99.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder; cases that it has are made anew")
    out = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="legacy-") as scratch:
        os.chdir(scratch)  # so that paths in what is written are short
        if not cases.DIGITAL.exists():
            pretrain()
        shutil.copy(cases.DIGITAL, out) if cases.DIGITAL.parent != out else None
        for name in cases.CASES:
            make(name, out / name)


def run(*arguments: object) -> None:
    """A command, which must succeed."""
    if status := command_line([str(argument) for argument in arguments]):
        raise SystemExit(status)


def pretrain() -> None:
    """The digital network that all cases start from."""
    Path("digital.yaml").write_text(cases.RECIPE)
    run("fit", "--config", "digital.yaml", "--trainer.default_root_dir", ".", "--trainer.max_epochs", 6)
    shutil.copy(Path("digital", "version_0", "model.safetensors"), cases.DIGITAL)


def make(name: str, out: Path) -> None:
    """One case's folder."""
    root = Path(name)
    root.mkdir()
    run(*cases.arguments("fit", name, root), "--trainer.max_steps", cases.STEPS)
    made = root / "legacy" / "version_0"
    weights = made / "model.safetensors"
    run(*cases.arguments("push", name, root), "--weights", weights, "--out", root / "pushed")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for file in (made / "checkpoints" / "last.ckpt", weights):
        shutil.copy(file, out)
    shutil.copytree(root / "pushed", out / "pushed")
    if not cases.CASES[name].converters:
        methods = ("--evaluation.methods", json.dumps(cases.CASES[name].methods))
        export = cases.arguments("export", name, root)
        run(*export, "--weights", weights, *methods, *SCHEDULE, "--out", root / "bundle")
        shutil.copytree(root / "bundle", out / "bundle")
    more = ("--trainer.max_steps", cases.MORE_STEPS, "--evaluation.networks", "[]")
    run(*cases.arguments("fit", name, root), *more, "--ckpt_path", out / "last.ckpt")
    expected = expected_of(out, root / "legacy" / "version_1" / "model.safetensors", made / "rows.csv")
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


@torch.no_grad()
def expected_of(folder: Path, resumed: Path, rows: Path) -> dict[str, Any]:
    """Outputs of what is in a case's folder, and the rows of its run."""
    x, expected = cases.images(), {}
    model, device = hwaware.from_pretrained(folder / "pushed")
    with hwaware.drift_free(model):
        expected["exact"] = model(x).tolist()
    with hwaware.Chip.program(model, device, seed=cases.CHIP_SEED).at(cases.TEN_YEARS_S):
        expected["chip"] = model(x).tolist()
    plain = timm.create_model("legacy_test_net").eval()
    plain.load_state_dict(load_file(resumed))
    expected["resumed"] = plain(x).tolist()
    if (folder / "bundle").exists():
        bundle, network = hwaware.read_bundle(folder / "bundle"), timm.create_model("legacy_test_net").eval()
        bundle.install(network)
        chip = hwaware.Chip.program(network, bundle.device, seed=cases.CHIP_SEED)
        for repair in bundle.repairs:
            with chip.at(cases.TEN_YEARS_S), repair(chip, cases.TEN_YEARS_S):
                expected[repair.method.name] = network(x).tolist()
    expected["rows"] = cases.values_of(rows)
    return expected


if __name__ == "__main__":
    main()
