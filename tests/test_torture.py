"""The short form of scripts/torture.py, and what scripts/torture_ends.py takes for a fault."""

import importlib.util
import resource
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.command_line import ROOT


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


torture, ends = script("torture"), script("torture_ends")


@pytest.mark.parametrize("kind", torture.KINDS)
def test_mutated_input_is_accepted_or_refused_in_a_line(kind):
    counts, faults = torture.torture(kind, 8)
    assert not faults and counts.total() == 8


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def fill() -> None:
    """1 GB more than this process ever had: the kernel's counters are off by much less, whatever the cores."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    now = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    assert b"x" * (most - now + (1 << 30))


def test_faults_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def runs():
        (tmp_path / torture.CANARY).touch()

    def long():
        raise torture.UserError("a\nb\nc")

    assert torture.outcome(lambda: [][0], tmp_path)[0] == "traceback"
    assert torture.outcome(long, tmp_path)[0] == "traceback"
    with monkeypatch.context() as limits:
        limits.setattr(torture, "SLOW_S", 0.05)
        assert torture.outcome(lambda: busy(0.1), tmp_path)[0] == "slow"
    with monkeypatch.context() as limits:
        limits.setattr(torture, "SLOW_S", 60.0)
        limits.setattr(torture, "LARGE_KB", 1 << 15)
        assert torture.outcome(fill, tmp_path)[0] == "large"
    assert torture.outcome(runs, tmp_path)[0] == "executed"


GOOD = {"end": "SIGTERM", "runs": 3, "finished": 1, "ended": 2, "told": 2, "whole": 3, "same": 3}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, False),
        ({"end": "SIGKILL", "told": 0}, False),
        ({"ended": 1, "told": 1}, True),  # one hung, or had a traceback
        ({"told": 1}, True),
        ({"whole": 2}, True),
        ({"same": 2}, True),
    ],
)
def test_faults_of_ends_are_found(change, fault):
    assert ends.failed(GOOD | change) is fault


def test_what_is_cut_short_or_left_behind_is_found(tmp_path):
    (tmp_path / "runs").mkdir()
    torch.save({"a": torch.zeros(100)}, tmp_path / "runs" / "last.ckpt")
    assert ends.is_whole(tmp_path, killed=False)
    (tmp_path / "runs" / ".last.ckpt.0.tmp").write_bytes(b"")
    assert ends.is_whole(tmp_path, killed=True) and not ends.is_whole(tmp_path, killed=False)
    (tmp_path / "runs" / "last.ckpt").write_bytes((tmp_path / "runs" / "last.ckpt").read_bytes()[:500])
    assert not ends.is_whole(tmp_path, killed=True)


def test_a_run_goes_on_as_it_says_or_as_its_files_ask(tmp_path):
    sweep = ends.Work(("sweep", "a.yaml", "--", "--x=1"), "a", "b", str)
    said = "hwaware: interrupted. The same command goes on with --ckpt_path a.ckpt\n"
    assert ends.goes_on(sweep, tmp_path, said, killed=False) == (
        "sweep",
        "a.yaml",
        "--ckpt_path",
        "a.ckpt",
        "--",
        "--x=1",
    )
    killed = ends.Work(("fit", "--config", "a.yaml"), "a", "b", str)
    assert ends.goes_on(killed, tmp_path, "", killed=True) == killed.words
    (tmp_path / "last.ckpt").touch()
    assert ends.goes_on(killed, tmp_path, "", killed=True) == (*killed.words, "--ckpt_path", "last")
