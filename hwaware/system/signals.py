"""SIGTERM and Ctrl-C: a command ends in order, once, and with the status that shells know."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: After which a signal is sent once more that a finaliser has swallowed (s).
_AGAIN_S = 0.05


class Stopped(SystemExit):
    """A signal asked the process to end.

    No KeyboardInterrupt, which Lightning turns into a status of 1; where nothing catches it, Python ends with its
    status and without a traceback.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)  # as shells say of a process that a signal ended
        self.number = number

    def __str__(self) -> str:
        return "interrupted." if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}."


@contextmanager
def stopping(own_process: bool = True) -> Iterator[None]:
    """Within, the first SIGTERM or Ctrl-C raises :class:`Stopped`; others that follow are ignored.

    A signal that is ignored stays so (``nohup``, a shell's background jobs).

    Args:
        own_process: nothing but what is within runs in it: what comes after its end ends at once, without a word.
    """
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number in _SIGNALS if before[number] != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _stop)
    told = sys.unraisablehook

    def again(lost: Any) -> None:
        """A finaliser or a callback of C code that a signal comes in swallows what is raised: sends it once more."""
        if not isinstance(lost.exc_value, Stopped):
            told(lost)
            return
        for number in taken:
            signal.signal(number, _stop)
        later = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), lost.exc_value.number))
        later.daemon = True
        later.start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = told
        for number in taken:
            signal.signal(number, signal.SIG_DFL if own_process else before[number])


def _stop(number: int, frame: FrameType | None) -> None:
    for one in _SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    raise Stopped(number)


class Noted:
    """Within, SIGTERM or Ctrl-C raises nothing: ``number`` says which came, for who looks at it where ending is safe.

    A second Ctrl-C ends at once: what is under way may take long.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def begin(self) -> None:
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)

    def end(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.number == signal.SIGINT:
            _stop(number, frame)
        if number == signal.SIGINT and not self.number:
            os.write(2, b"\nending after the step under way, with a checkpoint; Ctrl-C once more ends at once\n")
        self.number = self.number or number


def ignore_signals(*_: Any) -> None:
    """For processes that load data: the one that they load for ends them, in its own time."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def with_launched(trainer: Trainer) -> Iterator[None]:
    """Within, whatever ends the first process ends those that Lightning launched for a Trainer, too.

    They may hang in a collective, which ends no other way; Lightning itself ends them after a Ctrl-C only.
    """
    try:
        yield
    except BaseException:
        release_launched(trainer)
        for process in getattr(trainer.strategy.launcher, "procs", ()):
            process.kill()
            process.wait()
        raise


def release_launched(trainer: Trainer) -> None:
    """Takes the processes that Lightning launched for a Trainer from its observer.

    That would kill the first process, in the midst of what this one does at the end, when one of the others has ended.
    """
    launcher: Any = trainer.strategy.launcher
    if observed := getattr(launcher, "procs", None):
        launcher.procs = list(observed)
        observed.clear()  # the very list that the observer has
