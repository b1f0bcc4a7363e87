"""Accuracy by class as one table: a line a class, a column a network, at the greatest age."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from hwaware.report.labels import age_labels, device_heading, line_labels
from hwaware.report.small import SmallTable
from hwaware.results.row import OF_CLASS, Row
from hwaware.results.setting import LINE, SETTING, Setting, group_by


def apart(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of all samples, and those of single classes."""
    single = [row for row in rows if row.metric.startswith(OF_CLASS)]
    return [row for row in rows if not row.metric.startswith(OF_CLASS)], single


def class_tables(rows: Sequence[Row]) -> list[SmallTable]:
    """One table per setting, of rows of single classes."""
    names = [name for name in SETTING if name != "metric"]
    return [_table(same) for same in group_by(rows, names).values()]


def _table(rows: Sequence[Row]) -> SmallTable:
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
    return SmallTable(f"Accuracy by class (%): {where}", "class", ("base digital", *columns), tuple(lines))
