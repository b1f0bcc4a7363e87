"""Provenance of a result: source version, command and duration."""

from __future__ import annotations

import platform
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass
class _Command:
    words: tuple[str, ...] = ()
    begun: float = field(default_factory=time.monotonic)


_COMMANDS: list[_Command] = []


def begin_command(words: Sequence[str]) -> None:
    """Records the arguments of the command line, and the time."""
    _COMMANDS[:] = [_Command(tuple(words))]


def command_line() -> str:
    """The running command, as it would be typed; empty in plain Python."""
    return shlex.join(("hwaware", *_COMMANDS[0].words)) if _COMMANDS else ""


def elapsed_s() -> float | None:
    """Time (s) since the command began; None in plain Python."""
    return time.monotonic() - _COMMANDS[0].begun if _COMMANDS else None


@cache
def commit() -> str:
    """Short hash of the source tree's commit, with ``+`` for uncommitted changes; empty outside a checkout.

    It is read once, when the command line starts, since the tree may change during a run.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # otherwise the checkout is another project
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
