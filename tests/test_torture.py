"""The short form of scripts/torture.py."""

import importlib.util
import resource
import sys
import time
from pathlib import Path

import pytest

from tests.command_line import ROOT

spec = importlib.util.spec_from_file_location("torture", ROOT / "scripts" / "torture.py")
torture = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torture)


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
