"""SIGTERM and Ctrl-C: a command ends in order, once, and with the status that shells expect."""

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
#: Delay (s) before a signal is sent again that a finaliser has swallowed.
_AGAIN_S = 0.05


class Stopped(SystemExit):
    """A signal asked the process to end.

    Not a KeyboardInterrupt, which Lightning turns into status 1. If nothing catches it, Python exits with its status,
    without a traceback.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)  # as shells report a process that a signal ended
        self.number = number

    def __str__(self) -> str:
        return "interrupted." if self.number == signal.SIGINT else f"stopped by {signal.Signals(self.number).name}."


@contextmanager
def stopping(own_process: bool = True) -> Iterator[None]:
    """In this context the first SIGTERM or Ctrl-C raises :class:`Stopped`; later ones are ignored.

    Signals that are already ignored stay ignored (``nohup``, a shell's background jobs).

    Args:
        own_process: the context is the whole process; a signal after it ends the process at once, without a message.
    """
    if threading.current_thread() is not threading.main_thread():  # Python takes no handlers there
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [number for number in _SIGNALS if before[number] != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _stop)
    told = sys.unraisablehook

    def again(lost: Any) -> None:
        """Sends a signal again if a finaliser or C callback that it interrupted swallowed the exception."""
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
    """SIGTERM and Ctrl-C only set ``number``; the caller checks it where stopping is safe.

    A second Ctrl-C stops at once, since the current step may take long.
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
            os.write(2, b"\nstopping after this step, with a checkpoint; press Ctrl-C again to stop at once\n")
        self.number = self.number or number


def ignore_signals(*_: Any) -> None:
    """For processes that load data: the process that they load for ends them."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def with_launched(trainer: Trainer) -> Iterator[None]:
    """In this context, an error in the first process also ends those that Lightning launched for a Trainer.

    They may hang in a collective operation, which nothing else ends; Lightning ends them only after Ctrl-C.
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
    """Removes the processes that Lightning launched for a Trainer from its observer.

    When another process had ended, the observer would kill the first one in the middle of its final work.
    """
    launcher: Any = trainer.strategy.launcher
    if observed := getattr(launcher, "procs", None):
        launcher.procs = list(observed)
        observed.clear()  # the very list that the observer has
