"""What long work says of itself."""

from __future__ import annotations

import io

from rich.console import Console

from hwaware.evaluation import progress as module
from hwaware.evaluation.progress import progress


def test_what_begins_is_said_in_a_line_where_there_is_no_terminal(capsys):
    with progress("ageing chips", 2, shown=True) as steps, steps.within("fitting vera_plus (VeraPlus)", 4) as advance:
        advance()
        steps()
    assert capsys.readouterr().err.startswith("fitting vera_plus (VeraPlus)\n")


def test_a_terminal_has_two_bars_and_what_the_steps_are_of(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(module, "Console", lambda stderr: Console(file=shown, force_terminal=True, width=120))
    with progress("ageing chips", 2, shown=True) as steps:
        steps.of("base + vera_plus")
        with steps.within("fitting vera_plus (VeraPlus), level 1 of 2", 4) as advance:
            advance()
            steps._bars.refresh()
    assert "ageing chips: base + vera_plus" in shown.getvalue()
    assert "fitting vera_plus (VeraPlus), level 1 of 2" in shown.getvalue() and "1/4" in shown.getvalue()


def test_other_processes_say_nothing(capsys):
    with progress("ageing chips", 2, shown=False) as steps, steps.within("fitting") as advance:
        advance()
    assert capsys.readouterr().err == ""
