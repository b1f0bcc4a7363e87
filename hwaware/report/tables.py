"""Accuracy against age as a table, for the terminal and for GitHub."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from hwaware.evaluation import Row
from hwaware.report.labels import age_label, constants, heading, line_labels, settings, varying_params
from hwaware.report.summary import LINE, Summary, group_by, lifetime, summarise

#: Points below base digital at which a chip's life is said to end.
LOSS_POINTS = 1.0

_EXPLANATION = "Mean ± standard deviation over chips (5th-percentile chip), in percent."


@dataclass(frozen=True)
class _Grid:
    """One setting's table as text: a column per network, a row per reference and age."""

    title: str
    conditions: str
    footnote: str
    columns: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    ages: tuple[tuple[str, ...], ...]
    lifetimes: tuple[str, ...]


def accuracy_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for the terminal per setting; print them with a ``rich.console.Console``."""
    return [_rich(grid) for grid in _grids(rows)]


def markdown_table(rows: Iterable[Row]) -> str:
    """The same as GitHub markdown, one table per setting below each other."""
    return "\n\n".join(_markdown(grid) for grid in _grids(rows))


def _grids(rows: Iterable[Row]) -> list[_Grid]:
    rows = list(rows)
    varying = varying_params(rows)
    return [_grid(same, varying) for same in settings(rows)]


def _grid(rows: Sequence[Row], varying: Sequence[str]) -> _Grid:
    title, conditions = heading(rows, varying)
    lines = group_by(rows, LINE)
    labels = line_labels(rows)
    summaries = {line: {one.age_s: one for one in summarise(lines[line])} for line in lines}
    first = [next(iter(ages.values())) for ages in summaries.values()]
    return _Grid(
        title=title,
        conditions=conditions,
        footnote=f"{_EXPLANATION} Device: {constants(rows[0])}." if constants(rows[0]) else _EXPLANATION,
        columns=tuple(labels[line] for line in lines),
        references=(
            ("base digital", *(f"{one.base_digital:.2f}" for one in first)),
            ("drift-free", *(f"{one.drift_free:.2f}" for one in first)),
        ),
        ages=tuple(
            (age_label(age), *(_cell(summaries[line].get(age)) for line in lines))
            for age in sorted({row.age_s for row in rows})
        ),
        lifetimes=(f"life to −{LOSS_POINTS:g} point", *(_life(lines[line]) for line in lines)),
    )


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    if math.isnan(summary.std):
        return f"{summary.mean:.2f}"
    return f"{summary.mean:.2f} ± {summary.std:.2f} ({summary.p5:.2f})"


def _life(rows: Sequence[Row]) -> str:
    age_s = lifetime(rows, LOSS_POINTS)
    return f"> {age_label(max(row.age_s for row in rows))}" if age_s is None else age_label(age_s)


def _rich(grid: _Grid) -> Table:
    title = Text.assemble((grid.title, "bold"), "\n", (grid.conditions, "dim"))
    table = Table(title=title, caption=Text(grid.footnote), title_style="")
    table.add_column("age", no_wrap=True)
    for column in grid.columns:
        table.add_column(Text(column), justify="right")
    for section in (grid.references, grid.ages, (grid.lifetimes,)):
        for row in section:
            table.add_row(*row)
        table.add_section()
    return table


def _markdown(grid: _Grid) -> str:
    header = ["age", *(column.replace("|", "\\|") for column in grid.columns)]
    rule = ["---", *("---:" for _ in grid.columns)]
    body = [header, rule, *grid.references, *grid.ages, grid.lifetimes]
    lines = [f"| {' | '.join(cells)} |" for cells in body]
    return "\n".join([f"**{grid.title}** · {grid.conditions}", "", *lines, "", f"<sub>{grid.footnote}</sub>"])
