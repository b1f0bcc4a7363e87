"""A progress bar on the terminal's error stream."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextlib.contextmanager
def progress(what: str, total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """Yields what is to be called after each of ``total`` steps."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda: bars.advance(bar)
