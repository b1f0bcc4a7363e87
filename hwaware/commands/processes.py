"""Processes side by side, each with a log, each after those that it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

#: Seconds that a process has to end in order: to write a checkpoint, for one.
_GRACE_S = 60.0


class _Children:
    """Processes of this one, which end with it."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock, self._ended = threading.Lock(), False

    def run(self, command: Sequence[str], **how: Any) -> int:
        """Its exit status, -15 where none is to begin any more. Several threads may call this."""
        with self._lock:
            if self._ended:
                return -signal.SIGTERM
            process = subprocess.Popen(command, **how)
            self._running.add(process)
        try:
            return process.wait()
        except BaseException:
            _end([process])
            raise
        finally:
            self._running.discard(process)

    def begin(self) -> None:
        """Lets processes begin."""
        self._ended = False

    def end(self) -> None:
        """Ends all that run; none begins from here on."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        _end(running)


_CHILDREN = _Children()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks processes to end and, of those that don't, makes an end."""
    for process in processes:
        process.terminate()
    latest = time.monotonic() + _GRACE_S
    for process in processes:
        try:
            process.wait(max(0.0, latest - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def run_logged(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Runs a command in a process of its own and returns its exit status; what it prints goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return _CHILDREN.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )


def run_here(command: Sequence[str]) -> int:
    """Runs a command in a process of its own that reads and prints where this one does; returns its exit status."""
    _CHILDREN.begin()
    return _CHILDREN.run(command)


def run_all(
    tasks: Mapping[str, Callable[[], bool]],
    at_once: int,
    total: int,
    needs: Mapping[str, Collection[str]] | None = None,
) -> tuple[list[str], list[str]]:
    """Runs tasks side by side and says of each that it is done.

    Args:
        tasks: what runs, by name, in the order of starting; each says whether it was successful.
        at_once: how many may run at the same time.
        total: tasks there are in all, those that were finished before included.
        needs: for a task, the tasks that must have been successful before it starts.

    Returns:
        The names of those that failed, and of those that were not started, since they need one that failed.
    """
    needs, waiting, begin = needs or {}, dict(tasks), time.monotonic()
    failed: list[str] = []
    running: dict[Future[bool], str] = {}
    _CHILDREN.begin()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            while True:
                unmet = {*waiting, *running.values(), *failed}
                for name in [name for name in waiting if unmet.isdisjoint(needs.get(name, ()))]:
                    running[pool.submit(waiting.pop(name))] = name
                if not running:
                    return failed, list(waiting)
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    name, minutes = running.pop(done), (time.monotonic() - begin) / 60
                    failed += [name] * (not done.result())
                    number = total - len(waiting) - len(running)
                    told = "failed" if name in failed else "done"
                    print(f"{number}/{total} {name}: {told} ({minutes:.1f} min)", flush=True)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            _CHILDREN.end()
            error.add_note("The same command goes on with what is not finished.")
            raise
