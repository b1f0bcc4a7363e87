"""What a run's folder has of an evaluation: rows, their summary and plots; and the tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from hwaware.report.by_class import apart, class_tables
from hwaware.report.dies import die_tables
from hwaware.report.distribution import plot_distribution
from hwaware.report.html import Section
from hwaware.report.labels import assumed_label, slug, varying_params
from hwaware.report.plots import plot_accuracy, plot_costs
from hwaware.report.side_by_side import few_grids, plot_side_by_side, several
from hwaware.report.tables import rich_table
from hwaware.results.costs import Costs, cost_of
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.csv import write_rows
from hwaware.results.hits import Hits
from hwaware.results.row import Row
from hwaware.results.setting import LINE, by_setting, group_by, params_of
from hwaware.results.summary import write_summary

#: Chance level (percent) from which a further metric is left out of the terminal: top-5 of ten classes says nothing.
_NOTHING_SAID = 50.0


def print_tables(
    rows: Sequence[Row],
    criteria: Criteria = CRITERIA,
    hits: Hits | None = None,
    chance: Mapping[str, float] | None = None,
) -> None:
    """One table of accuracy per metric, those of dies and of classes; with hits, gains over samples as well.

    Metrics beside the first one whose chance level (percent) is high are left out; files have them.
    """
    console = Console()
    rows, classes = apart(rows)
    rows = [row for row in rows if row.metric == rows[0].metric or (chance or {}).get(row.metric, 0) < _NOTHING_SAID]
    for grid in few_grids(rows, criteria, hits):
        console.print(rich_table(grid, console.width))
    for table in [*die_tables(rows, varying_params(rows)), *class_tables(classes)]:
        console.print(table.rich())
    for (device, params), _ in group_by(rows, ["device", "device_params"]).items():
        if assumed := params_of(params).get("assumed"):
            print(f"{device}: {assumed_label(assumed)}")


def write_rows_and_plots(
    rows: Sequence[Row],
    folder: Path,
    costs: Costs,
    chance: Mapping[str, float] | None = None,
    criteria: Criteria = CRITERIA,
) -> list[Section]:
    """Writes ``rows.csv``, ``summary.csv`` (ratios, A*, yield, lifetime) and the plots; returns the latter by setting.

    Several devices side by side come first. Where repairs have costs, accuracy is also drawn against what they store.
    """
    write_rows(folder / "rows.csv", rows)
    write_summary(folder / "summary.csv", rows, chance, criteria)
    rows = apart(rows)[0]
    varying, sections = varying_params(rows), []
    side_by_side = several(rows)
    for same in side_by_side:
        samples = f"_n={same[0].n_samples}" * (sum(one[0].metric == same[0].metric for one in side_by_side) > 1)
        known = (chance or {}).get(same[0].metric)
        path = folder / "plots" / f"devices_{same[0].metric}{samples}.png"
        sections.append(Section(same, [plot_side_by_side(same, path, known)]))
    for same in by_setting(rows).values():
        # A figure has one network where it is repaired in several ways, else all of them.
        figures, plots, known = {"": same}, list[Path](), (chance or {}).get(same[0].metric)
        if any(row.method != "none" for row in same):
            figures = {f"_{network}": lines for network, lines in group_by(same, ["network"]).items()}
        for suffix, lines in figures.items():
            name = f"{slug(same, rows)}{suffix}.png"
            plots.append(plot_accuracy(lines, folder / "plots" / f"accuracy_{name}", varying, criteria, known))
            if same[0].metric == rows[0].metric:
                chips = plot_distribution(lines, folder / "plots" / f"chips_{name}", varying, criteria)
                plots += [] if chips is None else [chips]
            repairs = [line[0] for line in group_by(lines, LINE).values()]
            if any(cost.bytes_stored for cost in (cost_of(row, costs) for row in repairs) if cost):
                plots.append(plot_costs(lines, costs, folder / "plots" / f"costs_{name}", varying))
        sections.append(Section(same, plots))
    return sections
