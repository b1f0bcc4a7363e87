"""Tables of a few texts, for the terminal, for GitHub and for pages."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

#: Columns that what stands above and below a table has at least: rich breaks it where the table ends.
TEXT_WIDTH = 72


@dataclass(frozen=True)
class SmallTable:
    """What is shown as it is.

    Attributes:
        title: what was measured, on what.
        first: heading of the first column, which names the lines.
        columns: of the others.
        lines: a name and its cells.
        note: what stands below.
    """

    title: str
    first: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str = ""

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(self.first, title=Text(self.title), caption=Text(self.note) if self.note else None)
        table.min_width = TEXT_WIDTH if self.note else None
        for name in self.columns:
            table.add_column(Text(name), justify="right")
        for line in self.lines:
            table.add_row(*map(Text, line))
        return table

    def markdown(self) -> str:
        """For GitHub."""
        header = [[self.first, *self.columns], ["---", *("---:" for _ in self.columns)]]
        lines = [f"| {' | '.join(cells)} |" for cells in [*header, *self.lines]]
        return "\n".join([f"**{self.title}**", "", *lines, *["", self.note] * bool(self.note)])
