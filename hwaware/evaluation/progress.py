"""Progress on the error stream: a bar, and below it another for long tasks within a step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Steps:
    """A progress bar; call it after each step.

    If the error stream is not a terminal, each beginning is a line of text, and there are no bars.
    """

    def __init__(self, bars: Progress, what: str, total: int) -> None:
        self._bars, self._what = bars, what
        self._bar = bars.add_task(what, total=total)

    def __call__(self) -> None:
        self._bars.advance(self._bar)

    def of(self, what: str) -> None:
        """Sets the description of the following steps."""
        self._bars.update(self._bar, description=f"{self._what}: {what}")

    @contextlib.contextmanager
    def within(self, what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Yields a callback for each part of one step; ``total`` None: an unknown number."""
        if not self._bars.disable and not self._bars.console.is_terminal:
            self._bars.console.print(what, soft_wrap=True, highlight=False)
        bar = self._bars.add_task(what, total=total)
        try:
            yield lambda: self._bars.advance(bar)
        finally:
            self._bars.remove_task(bar)


@contextlib.contextmanager
def progress(what: str, total: int, shown: bool) -> Iterator[Steps]:
    """Yields a bar with ``total`` steps."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bars:
        yield Steps(bars, what, total)
