from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwaware.commands import grid, processes
from tests.processes import run_process, start


@pytest.fixture
def forked(monkeypatch):
    """Commands of this package that a command starts are forked: each of them would import for seconds, else."""

    def words(command: list[str]) -> list[str]:
        assert command[:3] == [sys.executable, "-m", "hwaware"]
        return command[3:]

    def run(self: object, command: list[str], *, stdout: Any, env: dict[str, str], **how: Any) -> int:
        process = start(words(command), Path.cwd(), Path(stdout.name), more=env)
        process.join()
        return process.exitcode

    def checked(command: list[str], **how: Any) -> Any:
        return run_process(*words(command), cwd=Path.cwd())

    monkeypatch.setattr(processes._Children, "run", run)
    monkeypatch.setattr(grid, "subprocess", SimpleNamespace(run=checked, DEVNULL=None))
