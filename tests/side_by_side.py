"""Several commands, one after the other, on two processes that start once: most of such a test's time is starting."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from pathlib import Path

from hwaware.cli.main import main
from tests.processes import end, fork


def run_side_by_side(commands: Iterable[Iterable[object]], cwd: Path, timeout_s: float = 600) -> list[list[int]]:
    """The exit status of each command, by process; what they print is in ``0.log`` and ``1.log``."""
    words = [[str(word) for word in command] for command in commands]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    processes = [
        fork(_run, (words, cwd / f"{rank}.json"), cwd, cwd / f"{rank}.log", more={**shared, "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        for process in processes:
            process.join(timeout_s)
    finally:
        for process in processes:
            end(process)
    return [json.loads((cwd / f"{rank}.json").read_text()) for rank in range(2)]


def _run(commands: list[list[str]], file: Path) -> None:
    file.write_text(json.dumps([main(command) for command in commands]))
