"""Figures of accuracy: against age, against what repairs store, and of the sets that a schedule needs."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwaware.errors import UserError
from hwaware.report.age_axis import age_positions, label_ages
from hwaware.report.drawing import accuracy_figure, bar, draw_mean, legend, new_figure, patch, save, sentence
from hwaware.report.labels import age_labels, heading, line_labels, low_label, metric_label
from hwaware.report.style import COLOURS, DASHES, GREY, INK, MARKERS, styled
from hwaware.results.costs import Costs, bytes_label, cost_of
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.row import Row
from hwaware.results.setting import LINE, SETTING, group_by
from hwaware.results.summary import Summary, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_OWN = {"finetuned": "#0072B2", "base": "#D55E00", "base_uncorrected": "#CC79A7"}


@styled
def plot_accuracy(
    rows: Iterable[Row],
    path: str | Path,
    varying: Sequence[str] = (),
    criteria: Criteria = CRITERIA,
    chance: float | None = None,
) -> Path:
    """Accuracy against age for every network on one device, and returns the path.

    Mean over chips (line), ± one standard deviation (band) and the chip of the percentile (dashed); base digital,
    drift-free and, where networks come near it, chance as horizontal lines. Age is logarithmic, with age 0 left of a
    break. With a single age, networks stand below one another instead.

    Args:
        rows: measurements of one setting.
        path: the PNG file to write.
        varying: device parameters to name in the title besides the usual ones.
        criteria: which percentile is reported.
        chance: the metric without any knowledge (percent), where it is known.
    """
    rows = list(rows)
    if len(group_by(rows, SETTING)) != 1:
        raise UserError("one figure shows one device with one mapping, metric and data set; select its rows first.")
    lines = group_by(summarise(rows, criteria=criteria), LINE)
    low = low_label([one.n_chips for line in lines.values() for one in line], criteria, rows[0].metric)
    labels = line_labels(rows)
    colours = line_colours(list(labels.items()))
    if len({row.age_s for row in rows}) == 1:
        figure, top = _below_one_another({labels[line]: (one[0], colours[line]) for line, one in lines.items()}, low)
        top.set_xlabel(sentence(f"{metric_label(rows[0].metric)} at {age_labels(rows)[rows[0].age_s]} (%)"))
        return save(figure, top, heading(rows, varying), path)
    positions = age_positions(row.age_s for row in rows)
    figure, axes = accuracy_figure(list(lines.values()), chance)
    crowded = len(lines) > len(COLOURS)  # then only means and bands, and dashes tell lines of a colour apart
    for axis in axes:
        for number, (line, summaries) in enumerate(lines.items()):
            x = [positions[one.age_s] for one in summaries]
            if crowded:
                dashes = DASHES[number // (len(COLOURS) - 1) % len(DASHES)]
                draw_mean(axis, x, summaries, colours[line], labels[line], dashes)
            else:
                _draw_line(axis, x, summaries, labels[line], colours[line])
    label_ages(axes[-1], positions, age_labels(rows))
    legend(figure, axes[0], None if crowded else low)
    return save(figure, axes[0], heading(rows, varying), path)


@styled
def plot_costs(rows: Iterable[Row], costs: Costs, path: str | Path, varying: Sequence[str] = ()) -> Path:
    """Accuracy at the greatest age against the bytes that each repair stores, with the Pareto front.

    Mean over chips, ± one standard deviation. Bytes are logarithmic; what stores nothing stands left of a break.

    Args:
        rows: measurements of one setting and one network.
        costs: what repairs cost; a method without a line is left out, no repair stores nothing.
        path: the PNG file to write.
        varying: device parameters to name in the title besides the usual ones.
    """
    rows = list(rows)
    last = max(row.age_s for row in rows)
    rows = [row for row in rows if row.age_s == last]
    labels, points = line_labels(rows), []
    colours = line_colours(list(labels.items()))  # as in the figure of accuracy against age
    for line, same in group_by(rows, LINE).items():
        cost = cost_of(same[0], costs)
        if same[0].method == "none":
            points.append((0.0, summarise(same)[0], line))
        elif cost is not None:
            points.append((cost.bytes_stored, summarise(same)[0], line))
    stored = [count for count, _, _ in points if count > 0]
    if not stored:
        raise UserError("no repair with a cost: there is nothing to draw accuracy against.")
    nothing, edge = 10 ** (math.floor(math.log10(min(stored))) - 0.5), max(stored) * 10**0.5
    front, least = list[tuple[float, float]](), math.inf
    for count, summary, _ in sorted(points, key=lambda point: (point[0], point[1].lost)):
        if summary.lost < least:
            least = summary.lost
            front.append((count or nothing, summary.mean))
    figure, axes = accuracy_figure([[summary] for _, summary, _ in points])
    for axis in axes:
        axis.step(
            *zip(*front, (edge, front[-1][1]), strict=True), where="post", color=GREY, label="Pareto front", zorder=0.9
        )
        for number, (count, summary, line) in enumerate(points):
            marker = MARKERS[number % len(MARKERS)]
            axis.errorbar(count or nothing, summary.mean, bar(summary), color=colours[line], fmt=marker, markersize=5,
                          label=labels[line])  # fmt: skip
        axis.set_xscale("log")
        axis.set_xlim(nothing / 2, edge)
    axes[-1].xaxis.set_major_formatter(lambda count, _: bytes_label(count))
    axes[-1].set_xlabel(f"bytes stored (log scale); left of {bytes_label(nothing * 10**0.5)}: none")
    bars = any(summary.n_chips > 1 for _, summary, _ in points)
    legend(figure, axes[0], more=[patch("bars: ± 1 std over chips", alpha=0.0)] * bars)
    title, conditions = heading(rows, varying)
    return save(figure, axes[0], (f"{title}, age {age_labels(rows)[last]}", conditions), path)


@styled
def plot_sets(
    points: Mapping[str, Sequence[tuple[float, int, bool]]], path: str | Path, title: tuple[str, str]
) -> Path:
    """How many sets a drift-aware schedule needs for an accuracy target; ringed where even they miss it at some age.

    Args:
        points: for each line, targets (percent of the drift-free accuracy), sets, and whether they reach the target.
        path: the PNG file to write.
        title: heading and second line.
    """
    figure, (axis,) = new_figure()
    for number, (label, line) in enumerate(points.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        targets, sets, _ = zip(*sorted(line), strict=True)
        axis.plot(targets, sets, color=colour, marker=marker, label=label)
        missed = [(target, count) for target, count, reached in line if not reached]
        if missed:
            axis.plot(*zip(*missed, strict=True), color=colour, marker=marker, linestyle="none", fillstyle="none",
                      markersize=8, label=f"{label}: target missed")  # fmt: skip
    axis.locator_params(axis="y", integer=True)
    axis.set(xlabel="target (% of the drift-free accuracy)", ylabel="sets of vectors stored")
    axis.set_ylim(bottom=0)
    legend(figure, axis)
    return save(figure, axis, title, path)


def _below_one_another(lines: Mapping[str, tuple[Summary, str]], low: str) -> tuple[Figure, Axes]:
    """Each label's summary at one age in its colour: mean, deviation, the low chip; the mean in digits, too."""
    figure, (axis,) = new_figure(height=1.3 + 0.24 * len(lines))
    base = next(iter(lines.values()))[0].base_digital
    axis.axvline(base, color=INK, linewidth=1.0, label="base digital", zorder=0.9)
    for place, (one, colour) in enumerate(lines.values()):
        axis.errorbar(one.mean, place, xerr=bar(one), color=colour, marker="o")
        if one.n_chips > 1:
            axis.plot([one.shown_low], [place], marker="|", markersize=9, color=colour)
        axis.plot([one.drift_free], [place], marker="D", markersize=3.5, fillstyle="none", color=colour)
        deviation = "" if math.isnan(one.std) else f" ± {one.std:.2f}"
        axis.annotate(f"{one.mean:.2f}{deviation}", (1, place), (4, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize="small")  # fmt: skip
    axis.set_yticks(range(len(lines)), [textwrap.fill(label, 28) for label in lines])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.grid(axis="x")
    axis.plot([], [], marker="D", fillstyle="none", markersize=3.5, linestyle="none", color=GREY, label="drift-free")
    if low:
        axis.plot([], [], marker="o", color=GREY, label="± 1 std over chips")
        axis.plot([], [], marker="|", markersize=9, linestyle="none", color=GREY, label=low)
    legend(figure, axis)
    return figure, axis


def _draw_line(axis: Axes, x: Sequence[float], summaries: Sequence[Summary], label: str, colour: str) -> None:
    draw_mean(axis, x, summaries, colour, label)
    if any(one.n_chips > 1 for one in summaries):
        # A dash: a line of one point is none.
        alone: dict[str, Any] = {"marker": "_", "markersize": 9} if len(x) == 1 else {}
        axis.plot(x, [one.shown_low for one in summaries], color=colour, linewidth=1.0, linestyle="--", **alone)
    axis.axhline(summaries[0].drift_free, color=colour, linewidth=1.0, linestyle=":")


def line_colours(labels: list[tuple[tuple[str, ...], str]]) -> dict[tuple[str, ...], str]:
    """A colour for each labelled line, the same in all figures of a run."""
    spare = itertools.cycle([colour for colour in COLOURS if colour not in {_OWN.get(label) for _, label in labels}])
    return {line: _OWN.get(label) or next(spare) for line, label in labels}
