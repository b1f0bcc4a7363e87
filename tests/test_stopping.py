"""SIGTERM and Ctrl-C, sent to real processes: what they leave, say and return, and that the run goes on from there."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hwaware.results.csv import read_rows, write_rows
from tests.command_line import FINETUNE, measured, pretrained_weights, run
from tests.processes import end, lives, run_process, start

pytestmark = pytest.mark.slow

TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp")
IMPORTED = ("--trainer.callbacks", "tests.tiny.SaveEachRank")


def soon_s() -> float:
    """Within which all processes must have ended (s): 15, longer where others share the processor's cores."""
    return 15.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def common(*networks: str) -> tuple[object, ...]:
    judged = f"[{','.join(networks)}]"
    return ("--config", FINETUNE, "--model.weights", pretrained_weights(), "--evaluation.networks", judged)


def signalled(
    arguments: tuple[object, ...], cwd: Path, number: int, when: Callable[[], bool], all_of_them: bool = False
) -> tuple[int, str]:
    """Status and output of a command that gets a signal as soon as something holds, and all of whose processes end."""
    output = cwd / "output.txt"
    process = start(arguments, cwd, output)
    try:
        latest = time.monotonic() + 120
        while not when():
            assert process.is_alive() and time.monotonic() < latest, output.read_text()
            time.sleep(0.05)
        begin, longest = time.monotonic(), soon_s()
        (os.killpg if all_of_them else os.kill)(process.pid, number)
        process.join(longest)
        while lives(process.pid):
            assert time.monotonic() - begin < longest, "processes were left"
            time.sleep(0.1)
    finally:
        if lives(process.pid):
            end(process)
    said = output.read_text()
    assert "Traceback" not in said and "Error" not in said, said
    return process.exitcode, said


def resume_options(said: str) -> list[str]:
    """The options by which the command says that it goes on."""
    return re.findall(r"The same command goes on with (.*)", said)[-1].split()


def weights(folder: Path) -> dict:
    (file,) = folder.rglob("model.safetensors")
    return load_file(file)


def assert_same(one: dict, other: dict) -> None:
    assert [key for key in one if not one[key].equal(other[key])] == []


@pytest.mark.parametrize(
    ("processes", "number", "told"),
    [
        ((), signal.SIGTERM, "stopped by SIGTERM."),
        ((), signal.SIGINT, "interrupted."),
        (TWO, signal.SIGTERM, "stopped by SIGTERM."),
    ],
    ids=["one process", "Ctrl-C", "two processes"],
)
def test_a_signal_leaves_a_checkpoint_of_the_step_under_way(tmp_path, processes, number, told):
    """Sent in the midst of a micro-batch; of two processes to the second alone, in the midst of a step of both."""
    summed = ("--data.batch_size", 16, "--trainer.accumulate_grad_batches", 2, "--checkpoint.every_n_train_steps", 100)
    command = ("fit", *common(), *summed, *processes)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir()
    stopped.mkdir()
    if processes:
        done = run_process(*command, *IMPORTED, cwd=whole)
        assert done.returncode == 0, done.stderr
    else:
        run(*command, "--trainer.default_root_dir", whole)
    signals = ("--trainer.callbacks", "tests.tiny.SignalAt", "--trainer.callbacks.step", 3)
    signals += ("--trainer.callbacks.number", int(number))
    rank = ("--trainer.callbacks.rank", 1) if processes else ()
    done = run_process(*command, *signals, *rank, cwd=stopped)
    assert done.returncode == 128 + number and "Traceback" not in done.stderr, done.stderr
    last = "runs/finetune/version_0/checkpoints/last.ckpt"
    assert done.stderr.endswith(f"hwaware: {told} The same command goes on with --ckpt_path {last}\n")
    assert torch.load(stopped / last, weights_only=True)["global_step"] == 4
    done = run_process(*command, *IMPORTED, *resume_options(done.stderr), cwd=stopped)
    assert done.returncode == 0, done.stderr
    assert_same(weights(stopped), weights(whole))


@pytest.mark.parametrize(
    ("number", "all_of_them"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)]
)
def test_both_of_two_processes_end_while_training(tmp_path, number, all_of_them):
    checkpoint = tmp_path / "runs" / "finetune" / "version_0" / "checkpoints" / "last.ckpt"
    command = ("fit", *common(), *TWO, *IMPORTED, "--trainer.max_epochs", 1000, "--data.num_workers", 1)
    status, said = signalled(command, tmp_path, number, checkpoint.is_file, all_of_them)
    assert status == 128 + number
    assert resume_options(said) == ["--ckpt_path", str(checkpoint.relative_to(tmp_path))]


def test_both_of_two_processes_end_while_chips_age(tmp_path):
    trained = tmp_path / "runs" / "finetune" / "version_0" / "model.safetensors"
    command = ("fit", *common("finetuned"), *TWO, *IMPORTED, "--trainer.max_epochs", 1, "--evaluation.n_chips", 5000)
    status, said = signalled(command, tmp_path, signal.SIGTERM, trained.is_file)
    assert status == 143 and "--ckpt_path runs/finetune/version_0/checkpoints/last.ckpt" in said


@pytest.mark.parametrize("command", ["fit", "drift"])
def test_ageing_goes_on_from_the_rows_that_are_there(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)  # where each process leaves its network
    networks = ("base", "finetuned") if command == "fit" else ("base",)
    options = (command, *common(*networks), "--evaluation.n_chips", 40, *IMPORTED)
    whole = tmp_path / "whole"
    run(*options, "--trainer.default_root_dir", whole)
    rows = tmp_path / "runs" / "finetune" / "version_0" / "rows.partial.csv"
    status, said = signalled(options, tmp_path, signal.SIGTERM, rows.is_file)
    assert status == 143 and not rows.with_name("rows.csv").exists()
    assert str(rows.relative_to(tmp_path)) in resume_options(said)
    known = {(row.network, row.chip_seed, row.age_s, row.metric) for row in read_rows(rows)}
    write_rows(rows, [replace(row, value=-1.0) for row in read_rows(rows)])  # so that what is taken over shows
    done = run_process(*options, *resume_options(said), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = measured(tmp_path / "runs" / "finetune" / "version_1" / "rows.csv")
    expected = measured(whole / "finetune" / "version_0" / "rows.csv")
    assert known and len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        taken = (one.network, one.chip_seed, one.age_s, one.metric) in known
        assert one.value == (-1.0 if taken else other.value)


@pytest.mark.parametrize(("command", "number"), [("sweep", signal.SIGTERM), ("study", signal.SIGINT)])
def test_a_command_of_many_runs_takes_them_with_it(tmp_path, command, number):
    """Two run at a time; the signal is sent to the first process alone, and none of the others begins."""
    (tmp_path / "recipe.yaml").write_text(Path(FINETUNE).read_text())
    weights = f"--model.weights={pretrained_weights()}"
    endless = ["--trainer.max_epochs=1000", "--trainer.callbacks=tests.tiny.SaveEachRank", weights]
    if command == "sweep":
        sweep = {
            "program": "hwaware",
            "method": "grid",
            "command": ["${env}", "hwaware", "fit", "--config", "recipe.yaml", "${args}"],
            "parameters": {"seed_everything": {"values": [0, 1, 2, 3]}},
        }
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
        arguments = ("sweep", "sweep.yaml", "--jobs", 2, "--", *endless)
    else:
        job = {"command": f"fit --config recipe.yaml {' '.join(endless)}", "seeds": [0, 1, 2, 3]}
        (tmp_path / "study").mkdir()
        (tmp_path / "study" / "study.yaml").write_text(yaml.safe_dump({"jobs": {"train": job}}))
        arguments = ("study", "study", "--jobs", 2)

    def checkpoints() -> list[Path]:
        return list(tmp_path.rglob("last.ckpt"))

    status, said = signalled(arguments, tmp_path, number, lambda: len(checkpoints()) == 2)
    assert status == 128 + number
    assert said.rstrip().endswith("The same command goes on with what is not finished.")
    assert len(checkpoints()) == 2
    logs = [log.read_text() for log in tmp_path.rglob("log.txt")]
    assert len(logs) == 2 and all("stopped by SIGTERM. The same command goes on" in log for log in logs)
