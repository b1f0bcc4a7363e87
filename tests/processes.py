"""Commands as processes of their own, forked from one that has imported what they need: a start takes seconds, else.

They have a process group, an environment and handlers of signals as if a user had started them; the processes that
Lightning launches beside them are started by ``python -m hwaware``, as always.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

from hwaware.cli.main import main

ROOT = Path(__file__).parent.parent
_STARTING = threading.Lock()
_FORKSERVER = get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    [
        *("tests.processes", "tests.tiny", "hwaware.cli.build", "hwaware.cli.parser", "hwaware.callbacks"),
        *("hwaware.commands.fit", "hwaware.commands.drift", "hwaware.commands.compare", "hwaware.report"),
        *("hwaware.tasks", "hwaware.data", "hwaware.evaluation", "hwaware.compensation", "matplotlib.pyplot"),
        *("sklearn.datasets", "transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert"),
    ]
)


def environment() -> dict[str, str]:
    """Of processes that import hwaware and the tests from here, on one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(
    arguments: Sequence[object],
    cwd: Path,
    output: Path,
    errors: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """Starts a command, first of its own process group, whose output goes to files; ``more`` is of its environment."""
    return fork(_command, ([str(argument) for argument in arguments],), cwd, output, errors, more)


def fork(
    what: Callable[..., None],
    arguments: tuple[object, ...],
    cwd: Path,
    output: Path,
    errors: Path | None = None,
    more: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """As :func:`start`, a function of a module that can be imported."""
    where = (str(cwd), str(output), str(errors or output), {**environment(), **(more or {})})
    process = _FORKSERVER.Process(target=_in_place, args=(where, what, arguments))
    with _STARTING, mock.patch.dict(os.environ, environment()):  # which the one that forks gets, with the first
        process.start()
    return process


def _in_place(where: tuple[str, str, str, dict[str, str]], what: Callable[..., None], arguments: tuple) -> None:
    cwd, output, errors, environment = where
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    what(*arguments)


def _command(arguments: list[str]) -> None:
    sys.argv = ["hwaware", *arguments]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("hwaware.__main__")  # what Lightning launches others as
    sys.exit(main())


def end(process: ForkServerProcess) -> None:
    """Kills what is left of a process and of those that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.join()


def lives(group: int) -> bool:
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def run_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Runs a command in a process of its own, to its end."""
    with tempfile.TemporaryDirectory(prefix="hwaware-tests-") as folder:
        output, errors = Path(folder) / "output.txt", Path(folder) / "errors.txt"
        process = start(arguments, cwd, output, errors)
        process.join(300)
        if process.exitcode is None:
            end(process)
            raise subprocess.TimeoutExpired(list(arguments), 300, errors.read_text())
        return subprocess.CompletedProcess(arguments, process.exitcode, output.read_text(), errors.read_text())
