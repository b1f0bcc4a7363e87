"""Progress on the terminal's error stream: a bar, and below it one for what takes long within a step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Steps:
    """A bar, which is called after each of its steps.

    Where the error stream is no terminal, what begins is said in a line, and bars are left out.
    """

    def __init__(self, bars: Progress, what: str, total: int) -> None:
        self._bars, self._what = bars, what
        self._bar = bars.add_task(what, total=total)

    def __call__(self) -> None:
        self._bars.advance(self._bar)

    def of(self, what: str) -> None:
        """Says what the steps that follow are of."""
        self._bars.update(self._bar, description=f"{self._what}: {what}")

    @contextlib.contextmanager
    def within(self, what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Yields what is to be called after each part of one step; ``total`` None: nobody knows how many."""
        if not self._bars.disable and not self._bars.console.is_terminal:
            self._bars.console.print(what, soft_wrap=True, highlight=False)
        bar = self._bars.add_task(what, total=total)
        try:
            yield lambda: self._bars.advance(bar)
        finally:
            self._bars.remove_task(bar)


@contextlib.contextmanager
def progress(what: str, total: int, shown: bool) -> Iterator[Steps]:
    """Yields the bar of ``total`` steps."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bars:
        yield Steps(bars, what, total)
