"""Accuracy against age as a table, for the terminal and for GitHub."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from hwaware.evaluation import Row
from hwaware.report.labels import age_label, constants, heading, line_labels, settings, varying_params
from hwaware.report.summary import LINE, LOSS_POINTS, Summary, group_by, lifetime, summarise

_EXPLANATION = "Mean ± standard deviation over chips (5th-percentile chip), in percent."
_LIFE = f"life to −{LOSS_POINTS:g} point"


@dataclass(frozen=True)
class _Grid:
    """One setting's table as text: for each network in turn, its references, its cell per age, its lifetime."""

    title: str
    conditions: str
    constants: str
    networks: tuple[str, ...]
    base_digital: tuple[str, ...]
    drift_free: tuple[str, ...]
    ages: dict[str, tuple[str, ...]]
    lifetimes: tuple[str, ...]


def accuracy_tables(rows: Iterable[Row]) -> list[Table]:
    """One table for the terminal per setting, a column per network; print them with a ``rich.console.Console``."""
    rows = list(rows)
    return [_rich(_grid(same, varying_params(rows))) for same in settings(rows)]


def markdown_table(rows: Iterable[Row], varying: Sequence[str] = ()) -> str:
    """One table per setting as GitHub markdown, a row per network and a column per age.

    Args:
        rows: measurements; networks are shown in their order.
        varying: device parameters that the headings name, besides the usual ones and those that differ among ``rows``.
    """
    rows = list(rows)
    named = tuple(dict.fromkeys((*varying, *varying_params(rows))))
    return "\n\n".join(_markdown(_grid(same, named)) for same in settings(rows))


def _grid(rows: Sequence[Row], varying: Sequence[str]) -> _Grid:
    title, conditions = heading(rows, varying)
    lines = group_by(rows, LINE)
    labels = line_labels(rows)
    summaries = {line: {one.age_s: one for one in summarise(lines[line])} for line in lines}
    first = [next(iter(ages.values())) for ages in summaries.values()]
    return _Grid(
        title=title,
        conditions=conditions,
        constants=constants(rows[0]),
        networks=tuple(labels[line] for line in lines),
        base_digital=tuple(f"{one.base_digital:.2f}" for one in first),
        drift_free=tuple(f"{one.drift_free:.2f}" for one in first),
        ages={
            age_label(age): tuple(_cell(summaries[line].get(age)) for line in lines)
            for age in sorted({row.age_s for row in rows})
        },
        lifetimes=tuple(_life(lines[line]) for line in lines),
    )


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    if math.isnan(summary.std):
        return f"{summary.mean:.2f}"
    return f"{summary.mean:.2f} ± {summary.std:.2f} ({summary.p5:.2f})"


def _life(rows: Sequence[Row]) -> str:
    age_s = lifetime(rows)
    if age_s is not None and math.isnan(age_s):
        return "–"
    return f"> {age_label(max(row.age_s for row in rows))}" if age_s is None else age_label(age_s)


def _rich(grid: _Grid) -> Table:
    title = Text.assemble((grid.title, "bold"), "\n", (grid.conditions, "dim"))
    footnote = f"{_EXPLANATION} Device: {grid.constants}." if grid.constants else _EXPLANATION
    table = Table(title=title, caption=Text(footnote), title_style="")
    table.add_column("age", no_wrap=True)
    for network in grid.networks:
        table.add_column(Text(network), justify="right")
    table.add_row("base digital", *grid.base_digital)
    table.add_row("drift-free", *grid.drift_free, end_section=True)
    for age, cells in grid.ages.items():
        table.add_row(age, *cells)
    table.add_section()
    table.add_row(_LIFE, *grid.lifetimes)
    return table


def _markdown(grid: _Grid) -> str:
    header = ["network", "drift-free", *grid.ages, _LIFE]
    base = ["base digital", " / ".join(dict.fromkeys(grid.base_digital)), *("" for _ in header[2:])]
    networks = [name.replace("|", "\\|") for name in grid.networks]
    columns = (networks, grid.drift_free, *grid.ages.values(), grid.lifetimes)
    body = [header, ["---", *("---:" for _ in header[1:])], base, *zip(*columns, strict=True)]
    lines = [f"| {' | '.join(cells)} |" for cells in body]
    footnote = ["", f"Device: {grid.constants}."] if grid.constants else []
    return "\n".join([f"**{grid.title}** · {grid.conditions}", "", *lines, *footnote])
