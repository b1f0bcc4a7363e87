"""Accuracy by class as one table: a line a class, a column a network, at the greatest age."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from hwaware.report.labels import age_labels, device_heading, line_labels
from hwaware.results.row import OF_CLASS, Row
from hwaware.results.setting import LINE, SETTING, Setting, group_by


@dataclass(frozen=True)
class ClassTable:
    """Of one setting.

    Attributes:
        title: what was measured, on what.
        columns: what each figure is of.
        lines: a class's name and its figures, in percent, the mean over chips.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def apart(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of all samples, and those of single classes."""
    single = [row for row in rows if row.metric.startswith(OF_CLASS)]
    return [row for row in rows if not row.metric.startswith(OF_CLASS)], single


def class_tables(rows: Sequence[Row]) -> list[ClassTable]:
    """One table per setting, of rows of single classes."""
    names = [name for name in SETTING if name != "metric"]
    return [_table(same) for same in group_by(rows, names).values()]


def _table(rows: Sequence[Row]) -> ClassTable:
    last = max(row.age_s for row in rows)
    labels = line_labels(rows)
    by_line = group_by([row for row in rows if row.age_s == last], LINE)
    columns = [f"{labels[line]}, {age_labels(rows)[last]}" for line in by_line]
    lines = []
    for metric in dict.fromkeys(row.metric for row in rows):
        found = [[row for row in same if row.metric == metric] for same in by_line.values()]
        means = [f"{statistics.fmean(row.value for row in same):.1f}" for same in found]
        lines.append((metric.removeprefix(OF_CLASS), f"{found[0][0].base_digital:.1f}", *means))
    where = f"{rows[0].model} on {rows[0].dataset}, {device_heading(Setting.of(rows[0]))[0]}"
    return ClassTable(f"Accuracy by class (%): {where}", ("base digital", *columns), tuple(lines))


def rich_tables(rows: Sequence[Row]) -> list[Table]:
    """For the terminal."""
    found = []
    for one in class_tables(rows):
        table = Table("class", *one.columns, title=one.title)
        for line in one.lines:
            table.add_row(*line)
        found.append(table)
    return found
