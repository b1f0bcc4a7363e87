"""Figures of layers and the cells that they need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwaware.report.drawing import COLOURS, GREY, new_figure, save
from hwaware.results.plan import PlannedLayer, PlannedPoint
from hwaware.results.sensitivity import LayerSensitivity

#: Layers in a figure.
_SHOWN = 25

#: The least damage that is drawn, over the most.
_RANGE = 1e-5


def plot_sensitivity(found: Sequence[LayerSensitivity], path: str | Path, title: tuple[str, str]) -> Path:
    """Damage that each layer does by itself, most first.

    Args:
        found: layers by rank.
        path: the PNG file to write.
        title: heading and second line.
    """
    shown = found[:_SHOWN]
    figure, (axis,) = new_figure(height=1.6 + 0.27 * len(shown))
    places = range(len(shown))
    damage, bias, spread = ([getattr(one, what) for one in shown] for what in ("damage_nats", "bias_nats", "noise_std"))
    axis.barh(places, damage, color=COLOURS[0], height=0.7, label="spread and mean")
    axis.barh(places, bias, color=COLOURS[1], height=0.7, label="mean, which more cells don't take away")
    axis.errorbar(damage, places, xerr=spread, fmt="none", ecolor=GREY)
    if damage[0] > 0:
        axis.set_xscale("log")
        axis.set_xlim(max(damage[-1], damage[0] * _RANGE) / 3, damage[0] * 10)
    axis.set_yticks(places, [one.layer for one in shown], fontsize=8)
    axis.invert_yaxis()
    for place, one in zip(places, shown, strict=True):
        text = f"{one.weights:,} weights"
        axis.annotate(text, (one.damage_nats + one.noise_std, place), (6, 0), textcoords="offset points", va="center",
                      fontsize=7.5)  # fmt: skip
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("damage with this layer alone in cells, one in each place (nats)")
    axis.legend(loc="lower right", fontsize=8, frameon=False)
    return save(figure, axis, title, path)


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
    heights = (3.2, 0.8 + 0.22 * len(shown))
    figure, (above, below) = new_figure(rows=2, height=1.0 + sum(heights), heights=heights, sharex=False)
    ratios = [one.cells_ratio for one in front]
    above.axhline(front[0].exact, color="black", linewidth=1.2, label="exact network")
    measured, spread = [one.measured for one in front], [one.std for one in front]
    above.errorbar(
        ratios, measured, yerr=spread, color=COLOURS[0], marker="o", capsize=3, label="validation samples and chips"
    )
    above.plot(ratios, [one.predicted for one in front], color=COLOURS[1], linestyle="--", marker="s", markersize=4,
               label="predicted")  # fmt: skip
    for one in front:
        if one.chosen:
            above.plot([one.cells_ratio], [one.measured], "*", color=COLOURS[2], markersize=16, label="the plan")
    above.set_xlabel("cells, over one in each place")
    above.set_ylabel("accuracy on validation samples (%)")
    above.legend(loc="lower right", fontsize=9, frameon=False)
    places = range(len(shown))
    below.barh(places, [max(each.parallel, 1) for each in shown], color=COLOURS[0], height=0.7)
    for place, planned in zip(places, shown, strict=True):
        text = f"{planned.parallel}" if planned.parallel else "digital"
        below.annotate(
            text, (max(planned.parallel, 1), place), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    below.set_yticks(places, [each.layer for each in shown], fontsize=8)
    below.invert_yaxis()
    below.set_xscale("log", base=2)
    below.margins(x=0.1)
    below.grid(axis="y", visible=False)
    below.set_xlabel(f"cells in parallel; {len(shown)} of {len(layers)} layers, most damage first, all others have one")
    return save(figure, above, title, path)
