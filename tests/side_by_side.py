"""Several commands, one after the other, on two processes that start once: most of such a test's time is starting."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_side_by_side(commands: Iterable[list[object]], cwd: Path, timeout_s: float = 600) -> list[list[int]]:
    """The exit status of each command, by process; what they print is in ``0.log`` and ``1.log``."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(2):
        environment = {**os.environ, **shared, "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
        with (cwd / f"{rank}.log").open("w") as log:
            command = [sys.executable, "-m", "tests.side_by_side", words, str(cwd / f"{rank}.json")]
            processes.append(subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log))
    try:
        for process in processes:
            process.wait(timeout_s)
    finally:
        for process in processes:
            process.kill()
    return [json.loads((cwd / f"{rank}.json").read_text()) for rank in range(2)]


if __name__ == "__main__":
    import tests.tiny  # noqa: F401 - registers the tiny networks
    from hwaware.cli.main import main

    done = [main(command) for command in json.loads(sys.argv[1])]
    Path(sys.argv[2]).write_text(json.dumps(done))
