"""The short form of scripts/torture.py."""

import importlib.util
import sys

import pytest

from tests.command_line import ROOT

spec = importlib.util.spec_from_file_location("torture", ROOT / "scripts" / "torture.py")
torture = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(torture)


@pytest.mark.parametrize("kind", torture.KINDS)
def test_mutated_input_is_accepted_or_refused_in_a_line(kind):
    counts, faults = torture.torture(kind, 8)
    assert not faults and counts.total() == 8


def test_faults_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def runs():
        (tmp_path / torture.CANARY).touch()

    def long():
        raise torture.UserError("a\nb\nc")

    assert torture.outcome(lambda: [][0], tmp_path)[0] == "traceback"
    assert torture.outcome(long, tmp_path)[0] == "traceback"
    assert torture.outcome(lambda: bytearray(3 << 30) and None, tmp_path)[0] in ("large", "slow")
    assert torture.outcome(runs, tmp_path)[0] == "executed"
