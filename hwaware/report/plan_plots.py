"""Figures of layers and the cells that they need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hwaware.report.drawing import legend, new_figure, plain_log, save
from hwaware.report.style import COLOURS, GREY, INK, styled
from hwaware.results.plan import PlannedLayer, PlannedPoint
from hwaware.results.sensitivity import LayerSensitivity

#: Layers in a figure.
_SHOWN = 25

#: The least damage that is drawn, over the most.
_RANGE = 1e-5

#: Height (inches) of a layer's line.
_LINE_IN = 0.165


@styled
def plot_sensitivity(found: Sequence[LayerSensitivity], path: str | Path, title: tuple[str, str]) -> Path:
    """Damage that each layer does by itself, most first, on a logarithm; a sentence where none does any.

    Args:
        found: layers by rank.
        path: the PNG file to write.
        title: heading and second line.
    """
    shown = found[:_SHOWN]
    figure, (axis,) = new_figure(height=1.4 + _LINE_IN * len(shown))
    places = range(len(shown))
    damage, bias, spread = ([getattr(one, what) for one in shown] for what in ("damage_nats", "bias_nats", "noise_std"))
    drawn = [value for value in (*damage, *bias) if 0 < value < math.inf]
    if drawn:
        axis.set_xscale("log")
        ends = [one + std for one, std in zip(damage, spread, strict=True) if one + std < math.inf]
        axis.set_xlim(max(min(drawn), max(drawn) * _RANGE) / 2, 2 * max(drawn + ends))
        plain_log(axis.xaxis)
        several = any(spread)
        axis.errorbar(damage, places, xerr=spread, fmt="o", color=COLOURS[0], markersize=5, zorder=3,
                      label="one layer in cells" + ", ± 1 std over chips" * several)  # fmt: skip
        axis.plot(bias, places, "D", color=COLOURS[1], fillstyle="none", zorder=4,
                  label="of it by the cells' mean, which parallel cells do not reduce")  # fmt: skip
        legend(figure, axis)
    else:
        axis.set_xticks([])
        axis.text(0.5, 0.5, "no layer does any damage", transform=axis.transAxes, ha="center", va="center", color=GREY)
    axis.set_yticks(places, [one.layer for one in shown])
    axis.set_ylim(len(shown) - 0.5, -0.5)
    for place, one in zip(places, shown, strict=True):
        text = f"{one.weights:,}" if math.isfinite(one.damage_nats) else f"{one.weights:,}: damage unknown"
        axis.annotate(text, (1, place), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center", fontsize="small", color=GREY)  # fmt: skip
    axis.annotate("weights", (1, -0.5), (4, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  fontsize="small", color=GREY)  # fmt: skip
    axis.set_xlabel("divergence from the exact network (nats, log scale)")
    few = f" · {len(shown)} of {len(found)} layers, those that do most damage" * (len(shown) < len(found))
    return save(figure, axis, (title[0], title[1] + few), path)


@styled
def plot_plan(
    layers: Sequence[PlannedLayer], front: Sequence[PlannedPoint], path: str | Path, title: tuple[str, str]
) -> Path:
    """Accuracy against cells with the plan marked, above the cells that layers get.

    Args:
        layers: by damage, most first; those are shown that do most, and all that have more than one cell.
        front: by cells, on validation samples.
        path: the PNG file to write.
        title: heading and second line.
    """
    shown = [one for number, one in enumerate(layers) if number < _SHOWN or one.parallel != 1]
    heights = (2.2, 0.4 + _LINE_IN * len(shown))
    figure, (above, below) = new_figure(rows=2, height=1.1 + sum(heights), heights=heights, sharex=False)
    ratios, spread = [one.cells_ratio for one in front], [one.std for one in front]
    above.axhline(front[0].exact, color=INK, linewidth=1.0, label="exact network")
    above.errorbar(ratios, [one.measured for one in front], yerr=spread, color=COLOURS[0], marker="o",
                   label="measured" + ", ± 1 std over validation chips" * any(spread))  # fmt: skip
    above.plot(ratios, [one.predicted for one in front], color=COLOURS[1], linestyle="--", marker="s", markersize=3,
               label="predicted")  # fmt: skip
    for one in front:
        if one.chosen:
            above.plot([one.cells_ratio], [one.measured], "*", color=COLOURS[2], markersize=10, label="the plan",
                       linestyle="none", zorder=3)  # fmt: skip
    above.set_xlabel("number of cells, over one for each place")
    above.set_ylabel("validation accuracy (%)")
    legend(figure, above)
    places = range(len(shown))
    below.barh(places, [max(each.parallel, 1) for each in shown], color=COLOURS[0], height=0.7)
    for place, planned in zip(places, shown, strict=True):
        text = f"{planned.parallel}" if planned.parallel else "digital"
        below.annotate(text, (max(planned.parallel, 1), place), (3, 0), textcoords="offset points", va="center",
                       fontsize="small")  # fmt: skip
    below.set_yticks(places, [each.layer for each in shown])
    below.set_ylim(len(shown) - 0.5, -0.5)
    below.set_xscale("log", base=2)
    below.set_xlim(0.9, 1.6 * max(2, *(each.parallel for each in shown)))
    below.xaxis.set_major_formatter("{x:g}")
    below.grid(axis="y", visible=False)
    below.set_xlabel("cells in parallel (log scale)")
    others = f" · {len(shown)} of {len(layers)} layers; the others have one cell for each place"
    return save(figure, above, (title[0], title[1] + others * (len(shown) < len(layers))), path)
