"""How accuracy is distributed over chips, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwaware.report.drawing import legend, new_figure, save, sentence
from hwaware.report.labels import age_labels, heading, line_labels, low_label, metric_label, points_label
from hwaware.report.plots import line_colours
from hwaware.report.style import GREY, INK, styled
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.metric import less_is_better, points_lost
from hwaware.results.row import Row
from hwaware.results.setting import LINE, group_by

#: Panels at most, an age each.
_PANELS = 3

#: A line further below base digital than so many points would flatten those that stay above.
_SHOWN_POINTS = 12.0

#: Chips up to which each is a mark.
_MARKED = 60


@styled
def plot_distribution(
    rows: Sequence[Row], path: str | Path, varying: Sequence[str] = (), criteria: Criteria = CRITERIA
) -> Path | None:
    """The share of chips that are at most as accurate, a panel for each of a few ages; None where there is one chip.

    Where a line crosses the bound of good chips is what they lack to a yield of 100 %.

    Args:
        rows: measurements of one setting.
        path: the PNG file to write.
        varying: device parameters to name in the title besides the usual ones.
        criteria: what a good chip is, and which percentile is reported.
    """
    by_age = {age_s: same for age_s, same in sorted(group_by(rows, ["age_s"]).items())}
    by_age = {age_s: same for age_s, same in by_age.items() if _most_chips(same) > 1}
    if not by_age:
        return None
    ages = [list(by_age)[place] for place in sorted({*np.linspace(0, len(by_age) - 1, _PANELS).round().astype(int)})]
    labels, named = line_labels(rows), age_labels(rows)
    colours, base, metric = line_colours(list(labels.items())), rows[0].base_digital, rows[0].metric
    is_error = less_is_better(metric)
    bound = base + criteria.loss_points if is_error else base - criteria.loss_points
    figure, axes = new_figure(len(ages), 0.9 + 1.2 * len(ages), heights=(1,) * len(ages), sharex=False)
    for axis, age_s in zip(axes, ages, strict=True):
        lines = {line: sorted(row.value for row in same) for line, same in group_by(by_age[age_s], LINE).items()}
        near = [value for line in lines.values() for value in line if points_lost(metric, base, value) < _SHOWN_POINTS]
        shown = [base, bound, *(near or (value for line in lines.values() for value in line))]
        left, right = min(shown), max(shown)
        margin = 0.04 * (right - left) + 0.02
        axis.set_xlim(left - margin, right + margin)
        axis.axvline(base, color=INK, linewidth=1.0, label="base digital", zorder=0.9)
        good = f"good chips: at most {points_label(criteria.loss_points)} {'above' if is_error else 'below'}"
        axis.axvline(bound, color=GREY, linewidth=1.0, linestyle=":", label=good, zorder=0.9)
        if max(map(len, lines.values())) >= criteria.chips_of_percentile:
            low = low_label([criteria.chips_of_percentile], criteria, rows[0].metric)
            share = 100 - criteria.percentile if is_error else criteria.percentile
            axis.axhline(share, color=GREY, linewidth=0.8, linestyle="--", label=low, zorder=0.9)
        for line, values in lines.items():
            shares = 100 * np.arange(1, len(values) + 1) / len(values)
            # From 0 at the left edge to 100 at the right one, whatever lies outside.
            x = [min(left - 2 * margin, values[0]), *values, max(right + 2 * margin, values[-1])]
            axis.step(x, [0.0, *shares, 100.0], where="post", color=colours[line], label=labels[line])
            if len(values) <= _MARKED:
                axis.plot(values, shares, "o", color=colours[line], markersize=2.5)
        axis.set_ylim(-3, 103)
        axis.text(0.01, 0.95, named[age_s], transform=axis.transAxes, ha="left", va="top")
    figure.supylabel("chips at most as high (%)" if is_error else "chips at most as accurate (%)", fontsize="medium")
    axes[-1].set_xlabel(sentence(f"{metric_label(rows[0].metric)} of a chip (%)"))
    legend(figure, axes[0])
    return save(figure, axes[0], heading(rows, varying), path)


def _most_chips(rows: Sequence[Row]) -> int:
    return max(map(len, group_by(rows, LINE).values()))
