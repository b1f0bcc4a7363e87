"""Accuracy against age as a table, for the terminal and for GitHub."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from hwaware.report.labels import (
    age_labels,
    constants,
    heading,
    line_labels,
    low_label,
    marked_age,
    of_a_cell,
    points_label,
    sampling_label,
    varying_params,
)
from hwaware.report.small import TEXT_WIDTH
from hwaware.results.costs import CostLine, Costs, bytes_label, cost_of
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.hits import Hits, gain_over_samples
from hwaware.results.row import Row
from hwaware.results.setting import LINE, SETTING, Setting, by_setting, group_by
from hwaware.results.summary import Summary, lifetime, paired_gain, summarise

#: So many lines stand side by side in a terminal; more stand below one another where there is room for their names.
_SIDE_BY_SIDE = 3

#: Of lines that stand below one another in a terminal: characters of a name that are not broken further, where there
#: is room beside the others' narrowest cells.
_NAME_WIDTH, _CELL_WIDTH = 24, 10


@dataclass(frozen=True)
class Grid:
    """One setting's table: for each line (a network, repaired or not) in turn, its references, ages, life and costs.

    Attributes:
        title, conditions, constants: what was measured, on what, and the device's remaining parameters.
        of_a_cell: levels of a cell, where weights have levels.
        lines: what each line is called.
        base_digital, drift_free: accuracies (percent) as text.
        ages: for each age as text, each line's summary; None where it was not measured.
        life: heading of the lifetimes.
        lifetimes: as text.
        low: what the chip in brackets beside a mean is; empty where there is none.
        yield_at, yields: heading of the yields, at the last age, and these as text.
        gain_over, gains: over what (and over what else than chips), and by how much at the last age; empty without a
            reference.
        sampling: how sure the number of samples makes base digital; empty where nobody knows.
        costs: columns that say what repairs cost; empty cells for what is no repair.
    """

    title: str
    conditions: str
    constants: str
    of_a_cell: str
    lines: tuple[str, ...]
    base_digital: tuple[str, ...]
    drift_free: tuple[str, ...]
    ages: dict[str, tuple[Summary | None, ...]]
    life: str
    lifetimes: tuple[str, ...]
    low: str
    yield_at: str
    yields: tuple[str, ...]
    gain_over: str
    gains: tuple[str, ...]
    sampling: str
    costs: dict[str, tuple[str, ...]]


def markdown_table(
    rows: Iterable[Row], varying: Sequence[str] = (), against: str = "base", costs: Costs | None = None
) -> str:
    """One table per setting as GitHub markdown, a row per network and a column per age.

    Args:
        rows: measurements; networks are shown in their order.
        varying: device parameters that the headings name, besides the usual ones and those that differ among ``rows``.
        against: the network that gains are counted over, where it was measured on the same chips; its cells may have
            other parameters (an ablation's), since a chip is known by its seed.
        costs: what repairs cost, for further columns.
    """
    return markdown(grids(rows, varying, against, costs))


def markdown(tables: Iterable[Grid]) -> str:
    """Tables as GitHub markdown."""
    return "\n\n".join(map(_markdown, tables))


def grids(
    rows: Iterable[Row],
    varying: Sequence[str] = (),
    against: str = "base",
    costs: Costs | None = None,
    criteria: Criteria = CRITERIA,
    hits: Hits | None = None,
) -> list[Grid]:
    """One table per setting, in order of appearance; arguments as for :func:`markdown_table`, and ``summarise``.

    With hits of all rows of a table at its last age, its gains have an interval over samples as well as over chips.
    """
    rows = list(rows)
    named = tuple(dict.fromkeys((*varying, *varying_params(rows))))
    reference = of_network(rows, against)
    return [_grid(same, named, reference, costs or {}, criteria, hits) for same in by_setting(rows).values()]


def of_network(rows: Iterable[Row], name: str) -> list[Row]:
    """A network's rows without repairs."""
    return [row for row in rows if row.network == name and row.method == "none"]


def _comparable(reference: Iterable[Row], to: Row, age_s: float) -> list[Row]:
    """A reference network's rows at an age, in the same setting; else in the one that differs in parameters."""
    names = [name for name in SETTING if name != "device_params"]
    found = [row for row in reference if row.age_s == age_s and all(getattr(row, n) == getattr(to, n) for n in names)]
    by_params = group_by(found, ["device_params"])
    return by_params.get(to.device_params) or (found if len(by_params) == 1 else [])


def _grid(
    rows: Sequence[Row],
    varying: Sequence[str],
    reference: Sequence[Row],
    costs: Costs,
    criteria: Criteria,
    hits: Hits | None,
) -> Grid:
    labels = line_labels(rows)
    lines = {labels[line]: same for line, same in group_by(rows, LINE).items()}
    return grid_of(lines, (*heading(rows, varying), constants(rows[0])), reference, costs, criteria, hits)


def grid_of(
    lines: Mapping[str, Sequence[Row]],
    headings: tuple[str, str, str],
    reference: Sequence[Row],
    costs: Costs,
    criteria: Criteria,
    hits: Hits | None,
) -> Grid:
    """A table of lines that have metric and samples in common, each the rows of one setting.

    Args:
        lines: by what they are called.
        headings: title, conditions, and the device's remaining parameters.
        reference: rows that gains are counted over, where they are comparable.
        costs, criteria, hits: see :func:`grids`.
    """
    rows = [row for same in lines.values() for row in same]
    ages, last = age_labels(rows), max(row.age_s for row in rows)
    summaries = [{one.age_s: one for one in summarise(same, criteria=criteria)} for same in lines.values()]
    first = [next(iter(of_line.values())) for of_line in summaries]
    references = [_comparable(reference, same[0], last) for same in lines.values()]
    ends = [[row for row in same if row.age_s == last] for same in lines.values()]
    if hits is not None and (len({row.seed for row in rows}) > 1 or not all(map(hits.has, (*references, *ends)))):
        hits = None
    over = next((found[0].network for found in references if found), None)
    return Grid(
        title=headings[0],
        conditions=headings[1],
        constants=headings[2],
        of_a_cell=of_a_cell(rows),
        lines=tuple(lines),
        base_digital=tuple(f"{one.base_digital:.2f}" for one in first),
        drift_free=tuple(f"{one.drift_free:.2f}" for one in first),
        ages={label: tuple(of_line.get(age_s) for of_line in summaries) for age_s, label in ages.items()},
        life=life_heading(criteria),
        lifetimes=tuple(_life(same, criteria) for same in lines.values()),
        low=low_label([one.n_chips for of_line in summaries for one in of_line.values()], criteria, rows[0].metric),
        yield_at=yield_heading(ages[last], criteria),
        yields=tuple(yield_text(of_line.get(last), criteria) for of_line in summaries),
        gain_over=_gain_heading(over, ages[last], hits) if over else "",
        gains=tuple(_gain(end, found, hits) for end, found in zip(ends, references, strict=True)),
        sampling=sampling_label(rows[0].metric, rows[0].base_digital, rows[0].n_samples),
        costs=_cost_columns([cost_of(same[0], costs) for same in lines.values()]) if costs else {},
    )


def _cost_columns(lines: Sequence[CostLine | None]) -> dict[str, tuple[str, ...]]:
    """What is stored and added, a column each; those that say 0 for all are left out."""

    def cells(text: Callable[[CostLine], str]) -> tuple[str, ...]:
        return tuple("" if line is None else text(line) for line in lines)

    columns = {
        "stored": cells(lambda line: bytes_label(line.bytes_stored)),
        "extra MACs (%)": cells(lambda line: f"{line.extra_macs_percent:.3g}"),
        "images kept": cells(lambda line: str(line.images_kept)),
        "labels kept": cells(lambda line: str(line.labels_kept)),
        "cell writes": cells(lambda line: str(line.cell_writes)),
    }
    return {name: column for name, column in columns.items() if set(column) - {"", "0"}}


def accuracy_text(summary: Summary | None) -> str:
    """``mean ± std (low chip)``, which :func:`low_label` names; a dash for what was not measured."""
    if summary is None:
        return "–"
    if math.isnan(summary.std):
        return f"{summary.mean:.2f}"
    return f"{summary.mean:.2f} ± {summary.std:.2f} ({summary.shown_low:.2f})"


def life_heading(criteria: Criteria) -> str:
    """Heading of the lifetimes."""
    of = "" if criteria.yield_percent is None else f" of {criteria.yield_percent:g} % of chips"
    return f"life{of} to −{points_label(criteria.loss_points)}"


def yield_heading(age: str, criteria: Criteria) -> str:
    """Heading of the yields at an age."""
    return f"yield at {age}" + ("" if criteria.yield_percent is None else f", {criteria.yield_percent:g} % asked")


def yield_text(summary: Summary | None, criteria: Criteria) -> str:
    """The share of good chips, and whether it misses the yield that is asked; a dash for what was not measured."""
    if summary is None or summary.n_chips == 1:
        return "–"
    missed = criteria.yield_percent is not None and summary.yield_percent < criteria.yield_percent
    return f"{summary.yield_percent:.4g} %" + " (missed)" * missed


def _life(rows: Sequence[Row], criteria: Criteria) -> str:
    life, setting = lifetime(rows, criteria), Setting.of(rows[0])
    if life is None:
        return "–"
    if not life.ends:
        return f"> {marked_age(life.after_s, setting)}"
    if life.at_s is not None:
        return marked_age(life.at_s, setting)
    before = marked_age(life.before_s, setting)
    if not life.after_s:
        return "< " * (life.before_s > 0) + before
    return f"{marked_age(life.after_s, setting)} to {before}"


def _gain_heading(network: str, age: str, hits: Hits | None) -> str:
    return f"over {network} at {age}" + (", chips and samples" if hits else "")


def _gain(rows: Sequence[Row], reference: Sequence[Row], hits: Hits | None) -> str:
    gain = None
    if set(rows) != set(reference):
        gain = gain_over_samples(rows, reference, hits) if hits else paired_gain(rows, reference)
    if gain is None:
        return ""
    if len(gain.by_seed) == 2:
        return ", ".join(f"{one:+.2f}" for one in gain.by_seed)
    return f"{gain.mean:+.2f}" + ("" if math.isnan(gain.margin) else f" ± {gain.margin:.2f}")


def rich_table(grid: Grid, width: int = 80) -> Table:
    """For a terminal of so many columns; print it with a ``rich.console.Console``."""
    title = Text.assemble((grid.title, "bold"), "\n", (grid.conditions, "dim"))
    device = f"Device: {grid.constants}." if grid.constants else ""
    of_a_cell = f"{grid.of_a_cell}." if grid.of_a_cell else ""
    footnote = " ".join(filter(None, (_explanation(grid), grid.sampling, of_a_cell, device)))
    table = Table(title=title, caption=Text(footnote), title_style="", min_width=TEXT_WIDTH)
    ages = {age: list(map(accuracy_text, summaries)) for age, summaries in grid.ages.items()}
    columns = {"drift-free": grid.drift_free, **ages, grid.life: grid.lifetimes, grid.yield_at: grid.yields}
    if any(grid.gains):
        columns[grid.gain_over] = grid.gains
    room = width - _CELL_WIDTH * len(columns) - 4
    if len(grid.lines) > _SIDE_BY_SIDE and (room >= _NAME_WIDTH // 2 or len(grid.lines) >= len(columns)):
        room = max(1, min(max(map(len, grid.lines)), _NAME_WIDTH, room))
        table.add_column("network", overflow="fold", min_width=room)
        for name in columns:
            table.add_column(Text(name), justify="right")
        table.add_row("base digital", " / ".join(dict.fromkeys(grid.base_digital)), end_section=True)
        for line, *cells in zip(grid.lines, *columns.values(), strict=True):
            table.add_row(Text(line), *cells)
        return table
    table.add_column("age", no_wrap=len(grid.lines) <= _SIDE_BY_SIDE)
    for line in grid.lines:
        table.add_column(Text(line), justify="right", overflow="fold")
    table.add_row("base digital", *grid.base_digital)
    sections = ("drift-free", list(ages)[-1])
    for name, column in columns.items():
        table.add_row(name, *column, end_section=name in sections)
    return table


def _explanation(grid: Grid) -> str:
    """What the cells are."""
    spread = (
        f"Mean ± standard deviation over chips ({grid.low}), in percent." if grid.low else "In percent, of one chip."
    )
    gained = "Gains: mean paired difference ± 95 % confidence, in points."
    return " ".join([spread, *[gained] * any(grid.gains)])


def _markdown(grid: Grid) -> str:
    gained = any(grid.gains)
    header = ["network", "drift-free", *grid.ages, grid.life, *[f"{grid.gain_over} (95 %)"] * gained, *grid.costs]
    base = ["base digital", " / ".join(dict.fromkeys(grid.base_digital)), *("" for _ in header[2:])]
    lines = [name.replace("|", "\\|") for name in grid.lines]
    columns = (
        lines,
        grid.drift_free,
        *(map(accuracy_text, summaries) for summaries in grid.ages.values()),
        grid.lifetimes,
    )
    columns += (*[grid.gains] * gained, *grid.costs.values())
    body = [header, ["---", *("---:" for _ in header[1:])], base, *zip(*columns, strict=True)]
    text = [f"| {' | '.join(cells)} |" for cells in body]
    footnote = ["", f"Device: {grid.constants}."] if grid.constants else []
    return "\n".join([f"**{grid.title}** · {grid.conditions}", "", *text, *footnote])
