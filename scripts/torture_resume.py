#!/usr/bin/env python
"""Hundreds of killed training runs: each is killed at some batches, resumes, and must end with the same weights.

    scripts/torture_resume.py                       # 160 deaths: about twenty minutes on two cores
    scripts/torture_resume.py --way accumulated --rounds 3 --out deaths.csv

A tiny network on the digits is trained in several ways (checkpoints every few steps, gradient accumulation over three
batches, averaged weights, all layers' weights at once, checkpoints at the end of epochs, two processes). A run is
killed at one to three random batches, before or after the checkpoint of that step is written, without running any
handler. Then it resumes with ``--ckpt_path last``. Its ``model.safetensors`` is compared with that of an uninterrupted
run, bit for bit.

Exits with status 1 if one differs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from safetensors.torch import load_file

from hwaware.cli.main import main as hwaware
from hwaware.results.csv import write_csv
from tests.command_line import FINETUNE, pretrained_weights
from tests.processes import run_process

_AVERAGED = (
    *("--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging", "--trainer.callbacks.decay", "0.8"),
)
_ACCUMULATED = ("--trainer.accumulate_grad_batches", "3", "--data.batch_size", "16")
#: Settings by the name of a way to train.
WAYS = {
    "plain": ("--checkpoint.every_n_train_steps", "5"),
    "accumulated": (*_ACCUMULATED, "--checkpoint.every_n_train_steps", "2"),
    "averaged": (*_AVERAGED, "--checkpoint.every_n_train_steps", "5"),
    "averaged_accumulated": (*_AVERAGED, *_ACCUMULATED, "--checkpoint.every_n_train_steps", "2"),
    "weights_together": ("--model.weights_way", "together", "--checkpoint.every_n_train_steps", "5"),
    "epochs": ("--checkpoint.every_n_train_steps", "null", "--checkpoint.every_n_epochs", "1"),
    "two_processes": ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--checkpoint.every_n_train_steps", "2"),
}
_DIE = "--trainer.callbacks+=tests.tiny.DieAt"
#: Runs of this way start processes and are few.
_SLOW = "two_processes"
#: Batches of a run of the recipe.
_BATCHES = 20


def train(folder: Path, *more: str) -> tuple[int, str]:
    """Trains into a folder; the exit status, and what was said."""
    said = io.StringIO()
    common = ("fit", "--config", FINETUNE, "--evaluation.networks", "[]", "--model.weights", str(pretrained_weights()))
    resume = ("--ckpt_path", "last") if list(folder.rglob("*.ckpt")) else ()
    command = [*common, "--trainer.default_root_dir", str(folder), *more, *resume]
    if "ddp" in more:
        if _DIE not in more:  # the callback's module registers the network in the processes
            command += [_DIE, "--trainer.callbacks.batches", "1000000"]
        done = run_process(*command, cwd=folder.parent)
        return done.returncode, done.stdout + done.stderr
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = hwaware(command)
    return status, said.getvalue()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The finished network's."""
    (file,) = folder.rglob("model.safetensors")
    return load_file(file)


def survive(way: Sequence[str], deaths: Sequence[int], after: bool, folder: Path) -> None:
    """Dies at some batches, one after the other, and then finishes."""
    for batch in deaths:
        die = (_DIE, "--trainer.callbacks.batches", str(batch))
        status, said = train(folder, *way, *die, "--trainer.callbacks.after_saving", str(after).lower())
        if status != 1 or "Killed" not in said:
            raise RuntimeError(f"batch {batch}: the run did not die there: status {status}: {said[-300:]}")
    status, said = train(folder, *way)
    if status:
        raise RuntimeError(f"the run did not go on: status {status}: {said[-300:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=12, help="runs that die, of each way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV for the counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw, lines = random.Random(options.seed), []
    for name in options.way or WAYS:
        with tempfile.TemporaryDirectory() as place:
            status, said = train(Path(place, "whole"), *WAYS[name])
            if status:
                raise RuntimeError(f"{name}: {said[-300:]}")
            wanted, died, same = weights(Path(place, "whole")), 0, 0
            rounds = max(1, options.rounds // 2) if name == _SLOW else options.rounds
            for number in range(rounds):
                deaths = [draw.randint(1, _BATCHES // 2) for _ in range(draw.randint(1, 3))]
                folder = Path(place, str(number))
                survive(WAYS[name], deaths, draw.random() < 0.5, folder)
                found = weights(folder)
                equal = all(torch.equal(found[key], value) for key, value in wanted.items())
                died, same = died + len(deaths), same + equal
                if not equal:
                    print(f"  {name}: differs after deaths at {deaths}", flush=True)
        lines.append([name, rounds, died, same])
        print(f"{name}: {rounds} runs, {died} deaths, {same} ended with the same weights", flush=True)
    if options.out:
        write_csv(options.out, ("way", "runs", "deaths", "same"), lines)
    return int(any(same < runs for _, runs, _, same in lines))


if __name__ == "__main__":
    sys.exit(main())
