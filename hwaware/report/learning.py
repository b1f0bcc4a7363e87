"""The learning curve of a run, from the ``metrics.csv`` that Lightning's logger leaves in its folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from hwaware.report.drawing import legend, new_figure, plain_log, save
from hwaware.report.labels import metric_label
from hwaware.report.style import COLOURS, styled

#: Points of a curve; more would not change the picture.
_POINTS = 1000

_LOSSES = {"train/task_loss": "training", "val/loss": "validation"}


@styled
def plot_learning(metrics: str | Path, path: str | Path) -> Path | None:
    """Losses, and below them validation accuracies in percent, against optimiser steps; None where none are there.

    Args:
        metrics: the file of the logger.
        path: the PNG file to write.
    """
    curves = _curves(Path(metrics))
    losses = {label: curves[name] for name, label in _LOSSES.items() if name in curves}
    judged = [name for name in curves if name.startswith("val/") and name not in ("val/loss", "val/null_threshold")]
    if not losses:
        return None
    figure, axes = new_figure(rows=2 if judged else 1, height=3.9 if judged else 2.9, heights=(1,) * (1 + bool(judged)))
    for (label, points), colour in zip(losses.items(), COLOURS, strict=False):
        _draw(axes[0], points, colour, f"{label} loss")
    axes[0].set_ylabel("loss")
    if all(value > 0 for points in losses.values() for _, value in points):
        axes[0].set_yscale("log")
        plain_log(axes[0].yaxis)
    for name, colour in zip(judged, COLOURS[2:], strict=False):
        _draw(axes[1], curves[name], colour, f"validation {metric_label(name.removeprefix('val/'))}")
    if judged:
        axes[1].set_ylabel("validation (%)")
        _, labels = axes[1].get_legend_handles_labels()
        for line, label in zip(axes[1].get_lines(), labels, strict=True):
            axes[0].plot([], [], color=line.get_color(), marker="o", label=label)
    axes[-1].set_xlabel("optimiser steps")
    legend(figure, axes[0])
    return save(figure, axes[0], ("Training", "exact weights when validating: no noise, no drift"), path)


def _draw(axis: object, points: Sequence[tuple[int, float]], colour: str, label: str) -> None:
    few = points[:: math.ceil(len(points) / _POINTS)]
    style = {"marker": "o"} if len(few) <= 50 else {}
    axis.plot(*zip(*few, strict=True), color=colour, label=label, **style)  # type: ignore[attr-defined]


def _curves(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and finite values of each column that has some."""
    found: dict[str, list[tuple[int, float]]] = {}
    with file.open(newline="", encoding="utf-8") as text:
        for line in csv.DictReader(text):
            for name, value in line.items():
                if value and name not in ("epoch", "step") and math.isfinite(number := float(value)):
                    found.setdefault(name, []).append((int(line["step"]), number))
    return found
