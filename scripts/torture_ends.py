#!/usr/bin/env python
"""Commands stopped by signals and full disks: what they print and leave, and whether they resume to the same result.

    scripts/torture_ends.py                       # all commands: about half an hour on two cores
    scripts/torture_ends.py --command fit --rounds 1 --out ends.csv

Each command works on a tiny network. It gets SIGTERM, Ctrl-C (SIGINT) or SIGKILL at a random moment. Or, if this
process may mount one, it writes to a file system (tmpfs) of random size, which fills up, or to a read-only one. Then it
resumes with the options that it printed, or after SIGKILL with the options that fit its files. Its result is compared
with that of an uninterrupted run, value for value.

    finished     before the signal, or before the disk was full
    ended        with the status of the signal (143, 130), or with 1 and a line, without a traceback
    told         of those, printed how to resume, if there was something to resume from
    whole        all its files can be read, and none is half written
    same         resumed, and gave the same result
    hung         still ran a minute later
    traceback    had a traceback, or another status

Exits with status 1 if a command hung, had a traceback, left damaged files, did not say how to resume, or gave another
result.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import yaml
from safetensors.torch import load_file

from hwaware.results.csv import write_csv
from tests.command_line import FINETUNE, measured, pretrained_weights
from tests.processes import end, lives, start

COLUMNS = ("runs", "finished", "ended", "told", "whole", "same", "hung", "traceback")
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGKILL": signal.SIGKILL}
DISKS = ("full", "read-only")
LONGEST_S, GRACE_S = 300.0, 60.0
PAGE = 4096


@dataclass(frozen=True)
class Work:
    """A command.

    Attributes:
        words: the command line.
        result: pattern of the file that it leaves last.
        partial: name of a file that it can go on from.
        read: what of that file has to be the same.
    """

    words: tuple[str, ...]
    result: str
    partial: str
    read: Callable[[Path], Any]


def _tensors(file: Path) -> Any:
    return {name: (value.dtype, value.flatten().tolist()) for name, value in load_file(file).items()}


def _plan(file: Path) -> Any:
    return [line for line in file.read_text().splitlines() if "commit" not in line]


def works() -> dict[str, Work]:
    common = ("--config", FINETUNE, "--model.weights", str(pretrained_weights()))
    imported = ("--trainer.callbacks+=tests.tiny.DieAt", "--trainer.callbacks.batches", "1000000")  # has the network
    two = ("--trainer.devices", "2", "--trainer.strategy", "ddp", *imported)
    summed = ("--trainer.accumulate_grad_batches", "2", "--data.batch_size", "16")
    saved = ("--checkpoint.every_n_train_steps", "2")
    fit = ("fit", *common, *summed, *saved, "--evaluation.networks", "[]")
    chips = ("--evaluation.networks", "[base]", "--evaluation.n_chips", "10")
    cheap = ("--cells", "1.2", "--samples", "20", "--validation_samples", "50", "--validation_chips", "2")
    method = "--evaluation.methods+=GlobalDriftCompensation"
    return {
        "fit": Work(fit, "runs/finetune/version_*/model.safetensors", "last.ckpt", _tensors),
        "fit, two processes": Work((*fit, *two), "runs/finetune/version_*/model.safetensors", "last.ckpt", _tensors),
        "drift": Work(("drift", *common, *chips), "runs/finetune/version_*/rows.csv", "rows.partial.csv", measured),
        "compare": Work(
            ("compare", *common, *chips, method), "runs/finetune/version_*/rows.csv", "rows.partial.csv", measured
        ),
        "plan": Work(("plan", *common, *cheap), "runs/finetune/version_*/placement.yaml", "nothing", _plan),
        "export": Work(("export", *common, "--out", "bundle"), "bundle/conductances.safetensors", "nothing", _tensors),
        "sweep": Work(("sweep", "sweep.yaml", "--", *imported), "runs/sweeps/sweep/rows.csv", "rows.csv", measured),
    }


def prepare(folder: Path) -> None:
    """Writes what a command reads."""
    options = ["--config", FINETUNE, f"--model.weights={pretrained_weights()}", "--evaluation.networks=[base]"]
    sweep = {
        "program": "hwaware",
        "method": "grid",
        "command": ["${env}", "hwaware", "drift", *options, "${args}"],
        "parameters": {"seed_everything": {"values": [0, 1]}},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))


def run(words: Sequence[str], folder: Path, output: Path, number: int = 0, after_s: float = 0.0) -> int | None:
    """The exit status of a command, None where it had to be killed; a signal is sent after some seconds."""
    output.write_text("")
    process = start(words, folder, output)
    assert process.pid is not None  # it has started
    try:
        if number:
            process.join(after_s)
            if process.is_alive() and number == signal.SIGKILL:
                end(process)
            elif process.is_alive():
                os.kill(process.pid, number)
        latest = time.monotonic() + (GRACE_S if number else LONGEST_S)
        process.join(latest - time.monotonic())
        while lives(process.pid) and time.monotonic() < latest:  # those that it has started
            time.sleep(0.05)
        return None if lives(process.pid) else process.exitcode
    finally:
        end(process)


def goes_on(work: Work, folder: Path, said: str, killed: bool) -> tuple[str, ...]:
    """The command that goes on from what is there."""
    if named := re.findall(r"The same command goes on with (--.*)", said):
        return _with(work.words, named[-1].split())
    if killed and work.words[0] == "fit" and list(folder.rglob("last.ckpt")):
        return _with(work.words, ["--ckpt_path", "last"])
    partial = sorted(folder.rglob("version_*/rows.partial.csv"), key=lambda path: path.stat().st_mtime)
    if killed and work.words[0] in ("drift", "compare") and partial:
        return _with(work.words, ["--evaluation.resume", str(partial[-1])])
    return work.words


def _with(words: tuple[str, ...], options: Sequence[str]) -> tuple[str, ...]:
    at = words.index("--") if "--" in words else len(words)
    return (*words[:at], *options, *words[at:])


def is_whole(folder: Path, killed: bool) -> bool:
    """Whether what lies in a folder can be read; a killed command may leave what it was writing, under another name."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    hidden = [file for file in files if any(part.startswith(".") for part in file.relative_to(folder).parts)]
    try:
        for file in set(files) - set(hidden):
            if file.suffix == ".ckpt":
                torch.load(file, weights_only=True)
            elif file.suffix == ".safetensors":
                load_file(file)
            elif file.name in ("rows.csv", "rows.partial.csv"):
                measured(file)
            elif file.suffix == ".yaml":
                yaml.safe_load(file.read_text())
    except Exception as error:
        print(f"  damaged: {file.relative_to(folder)}: {error}", flush=True)
        return False
    if hidden and not killed:
        print(f"  left: {hidden[0].relative_to(folder)}", flush=True)
    return killed or not hidden


def result(work: Work, folder: Path) -> Any:
    """What the command left last; None where it left nothing."""
    files = sorted(folder.glob(work.result), key=lambda path: path.stat().st_mtime)
    return work.read(files[-1]) if files else None


@contextmanager
def disk(folder: Path, kind: str, size: int) -> Iterator[None]:
    """A file system at a folder, of some bytes (full) or read-only."""
    options = f"size={size}" if kind == "full" else "size=64m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        prepare(folder)
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        try:
            with disk(Path(place), "full", 1 << 20):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def once(work: Work, how: str, folder: Path, draw: random.Random, usual: tuple[float, Any]) -> Counter[str]:
    """One run that is ended, and goes on."""
    longest_s, wanted = usual
    output, killed, after_s = folder.with_suffix(".txt"), how == "SIGKILL", 0.0
    counts = Counter(runs=1)
    if how in SIGNALS:
        prepare(folder)
        after_s = draw.uniform(0.05, 0.95) * longest_s
        status, expected = run(work.words, folder, output, SIGNALS[how], after_s), 128 + SIGNALS[how]
    else:
        status, expected = run(work.words, folder, output), 1
    said = output.read_text(errors="replace")
    found = result(work, folder)
    what = f"  {work.words[0]}, {how}" + (f" after {after_s:.2f} s" if after_s else "")
    finished = status == 0 or (how in SIGNALS and found is not None and status == -SIGNALS[how])  # while Python ends
    in_a_line = killed or (said.rstrip().splitlines() or [""])[-1].startswith("hwaware: ")
    if status is None:
        counts["hung"] += 1
    elif "Traceback" in said or not (finished or (status == (-signal.SIGKILL if killed else expected) and in_a_line)):
        counts["traceback"] += 1
        print(f"{what}: status {status}: {said[-300:]}", flush=True)
    else:
        counts["finished" if finished else "ended"] += 1
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    elif how == "full":
        subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    more = goes_on(work, folder, said, killed)
    says = "The same command goes on" in said or not list(folder.rglob(work.partial))
    counts["told"] += not finished and not killed and says
    counts["whole"] += is_whole(folder, killed)
    if not finished:
        run(more, folder, output)
    same = result(work, folder) == wanted
    counts["same"] += same
    if not same:
        print(f"{what}: went on otherwise: {output.read_text(errors='replace')[-300:]}", flush=True)
    return counts


def main() -> int:
    every = works()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=every, action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each command for each end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="CSV for the counts")
    options = parser.parse_args()
    draw, lines = random.Random(options.seed), []
    ends = [*SIGNALS, *(DISKS if may_mount() else ())]
    print(f"{'command':<20}{'end':<10}" + "".join(f"{column:>10}" for column in COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as place:
        run(["device", "list"], Path(place), Path(place, "output.txt"))  # the first takes longer: it imports
    for name in options.command or every:
        work = every[name]
        with tempfile.TemporaryDirectory() as place:
            whole = Path(place, "whole")
            whole.mkdir()
            prepare(whole)
            begin = time.monotonic()
            if run(work.words, whole, whole.with_suffix(".txt")):
                raise RuntimeError(f"{name}: {whole.with_suffix('.txt').read_text()[-300:]}")
            size = sum(PAGE + file.stat().st_size for file in whole.rglob("*") if file.is_file())
            usual = time.monotonic() - begin, result(work, whole)
            for how in ends:
                counts = Counter[str]()
                for number in range(1 if how == "read-only" else options.rounds):
                    folder = Path(place, f"{how}-{number}")
                    folder.mkdir()
                    if how in SIGNALS:
                        counts += once(work, how, folder, draw, usual)
                        continue
                    with disk(folder, how, int(draw.uniform(4 * PAGE, size))):
                        counts += once(work, how, folder, draw, usual)
                lines.append([name, how, *(counts[column] for column in COLUMNS)])
                print(f"{name:<20}{how:<10}" + "".join(f"{counts[one]:>10}" for one in COLUMNS), flush=True)
                if options.out:
                    write_csv(options.out, ("command", "end", *COLUMNS), lines)
    return int(any(failed(dict(zip(("command", "end", *COLUMNS), line, strict=True))) for line in lines))


def failed(line: dict[str, Any]) -> bool:
    """Whether a line of the table has a fault."""
    told = line["end"] not in ("SIGTERM", "SIGINT") or line["told"] == line["ended"]
    return not (told and line["finished"] + line["ended"] == line["whole"] == line["same"] == line["runs"])


if __name__ == "__main__":
    sys.exit(main())
