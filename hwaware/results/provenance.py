"""Which source a result was made by, by which command, and how long that took."""

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
    """Notes what the command line is asked for, and when."""
    _COMMANDS[:] = [_Command(tuple(words))]


def command_line() -> str:
    """The command that runs, as it may be typed; empty in plain Python."""
    return shlex.join(("hwaware", *_COMMANDS[0].words)) if _COMMANDS else ""


def elapsed_s() -> float | None:
    """Since it began (s)."""
    return time.monotonic() - _COMMANDS[0].begun if _COMMANDS else None


@cache
def commit() -> str:
    """Short hash of the source tree's commit, with ``+`` when it has uncommitted changes; empty outside a checkout.

    Read once: the command line does so when it starts, since a tree may change while a run trains.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # else the checkout is of something else
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@cache
def processor() -> str:
    """What this machine's processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
