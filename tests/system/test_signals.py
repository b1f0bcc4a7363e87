"""Handlers of signals: what they raise, once, and what stands afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from hwaware.cli.main import main
from hwaware.system.signals import Noted, Stopped, release_launched, stopping, with_launched


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "stopped by SIGTERM."), (signal.SIGINT, "interrupted.")])
def test_the_first_signal_ends_what_runs_and_others_are_ignored(number, said):
    with stopping(own_process=False):
        with pytest.raises(Stopped, match=said) as caught:
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert caught.value.code == 128 + number
    with pytest.raises(KeyboardInterrupt):  # as before
        signal.raise_signal(signal.SIGINT)


class Finalised:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.01)  # in which Python looks for signals


def test_a_signal_is_not_lost_in_a_finaliser(capfd):
    before = sys.unraisablehook
    with pytest.raises(Stopped, match="interrupted"), stopping(own_process=False):
        Finalised()
        time.sleep(10)
    assert sys.unraisablehook is before
    assert capfd.readouterr().err == ""


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping(own_process=False):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_of_a_process_that_is_its_own_nothing_is_said_after_the_end():
    with stopping():
        pass
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_sigterm_can_wait():
    noted = Noted()
    with stopping(own_process=False):
        noted.begin()
        signal.raise_signal(signal.SIGTERM)
        assert noted.number == signal.SIGTERM
        noted.end()
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_ctrl_c_can_wait_and_a_second_one_cannot(capfd):
    noted = Noted()
    with stopping(own_process=False):
        noted.begin()
        signal.raise_signal(signal.SIGINT)
        assert noted.number == signal.SIGINT
        assert "stopping after this step, with a checkpoint" in capfd.readouterr().err
        with pytest.raises(Stopped, match=r"interrupted\."):
            signal.raise_signal(signal.SIGINT)
        noted.end()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_says_it_in_a_line(monkeypatch, capsys, number, status):
    def devices(arguments: list[str]) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("hwaware.commands.device.run", devices)
    assert main(["device", "list"]) == status
    assert capsys.readouterr().err in ("hwaware: stopped by SIGTERM.\n", "hwaware: interrupted.\n")
    assert main(["device", "list", "--debug"]) == status


class Process(SimpleNamespace):
    """Of those that Lightning launches."""

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None:
        pass


def test_launched_processes_end_with_the_first():
    process = Process(killed=False)
    observed = [process]
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=observed)))
    with with_launched(trainer):
        pass
    assert not process.killed and observed == [process]
    with pytest.raises(Stopped), with_launched(trainer):
        release_launched(trainer)
        assert observed == [] and not process.killed  # the observer would kill this process, else
        raise Stopped(signal.SIGTERM)
    assert process.killed


def test_without_a_launcher_there_is_nothing_to_end():
    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None))
    with pytest.raises(KeyError), with_launched(trainer):
        raise KeyError(os.getpid())
