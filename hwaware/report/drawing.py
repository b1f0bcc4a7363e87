"""What all figures share: axes, colours, legends, and saving as PNG without a display and as SVG beside it.

The SVG follows the reader's theme.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwaware.report.labels import metric_label
from hwaware.results.files import replacing
from hwaware.results.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Okabe and Ito's colours, which the colour-blind can tell apart. A network keeps its colour from figure to figure.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#555555"

MARKERS = "os^Dv"
DASHES = ("-", "--", ":", "-.")


#: A curve further below base digital than this many points would flatten those that stay above.
_ZOOM_POINTS = 12.0

#: Characters of a legend's one label that an inch of the figure's width holds.
_LEGEND_CHARACTERS = 11

#: Height of a legend that figures have room for; they grow with a higher one.
_LEGEND_INCHES = 0.9


def new_figure(
    rows: int = 1,
    height: float = 4.8,
    width: float = 8.0,
    heights: Sequence[float] = (1,),
    sharex: bool = True,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes below one another; sizes in inches."""
    # Built without pyplot: no global state, no display, nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, 1, sharex=sharex, sharey=sharey, squeeze=False, height_ratios=heights)[:, 0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    return figure, axes


def accuracy_figure(lines: list[list[Summary]]) -> tuple[Figure, list[Axes]]:
    """Axes with base digital for these lines; where some fall far below the rest, a close-up above the whole range."""
    base = lines[0][0].base_digital
    floor = base - _ZOOM_POINTS
    split = _splits(lines, floor)
    figure, axes = new_figure(rows=2 if split else 1, height=6.4 if split else 4.8, heights=(2.4, 1) if split else (1,))
    for axis in axes:
        axis.axhline(base, color="black", linewidth=1.2, label="base digital", zorder=0.9)
    axes[0].set_ylabel(sentence(f"{metric_label(lines[0][0].metric)} (%)"))
    if split:
        near = [one for line in lines for one in line if one.mean > floor]
        low = [value for one in near for value in (one.shown_low, one.mean - band(one), one.drift_free)]
        shown = [base, *(one.mean + band(one) for one in near), *(max(value, floor) for value in low)]
        axes[0].set_ylim(*limits(shown))
        axes[1].set_ylabel("whole range (%)")
        axes[1].set_ylim(0, 102)
    return figure, axes


def save_moments(
    figure: Figure, axes: Sequence[Axes], against: str, heading: tuple[str, str], path: str | Path
) -> Path:
    """Finishes and writes a figure of conductances' mean shift (above) and standard deviation (below)."""
    axes[0].axhline(0, color=GREY, linewidth=0.8)
    axes[0].set_ylabel("mean shift (µS)")
    axes[1].set_ylabel("standard deviation (µS)")
    axes[1].set_ylim(bottom=0)
    axes[1].set_xlabel(against)
    legend(figure, axes[0])
    return save(figure, axes[0], heading, path)


def save(figure: Figure, top: Axes, heading: tuple[str, str], path: str | Path) -> Path:
    """Writes a figure with its heading as PNG, and as SVG beside it; returns the former's path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _render(figure, top, heading, path)
    return path


def _render(figure: Figure, top: Axes, heading: tuple[str, str], path: Path) -> None:
    figure.draw_without_rendering()  # places the axes, whose edge both headings keep to
    left = top.get_position().x0
    inches = figure.get_figwidth() * (1 - left)
    title = textwrap.fill(heading[0], int(11 * inches))
    figure.suptitle(title, x=left, fontsize=11, fontweight="bold", ha="left")
    top.set_title(textwrap.fill(heading[1], int(14.5 * inches)), fontsize=8.5, color=GREY, loc="left")
    figure.savefig(path, dpi=150)
    figure.set_layout_engine("none")  # the SVG has the places that the PNG has found
    _save_svg(figure, path.with_suffix(".svg"))


#: Colours of text, lines and paper, which a reader's dark theme changes; those of networks suit both.
_THEME = """
<style>
svg { --ink: #1b1f24; --muted: #555555; --paper: #ffffff; fill: var(--ink) }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --muted: #a3a9b1; --paper: #1a1d21 } }
</style>
"""


_THEMED = {"#000000": "var(--ink)", GREY: "var(--muted)", "#ffffff": "var(--paper)"}


def _save_svg(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    drawn = io.StringIO()
    with rc_context({"svg.hashsalt": path.stem}):  # the same file for the same figure
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    text = re.sub("|".join(_THEMED), lambda colour: _THEMED[colour[0]], drawn.getvalue())
    head, tag, rest = text.partition("<defs>")
    with replacing(path) as file:
        file.write((head + _THEME + tag + rest).encode())


def _splits(lines: Iterable[list[Summary]], floor: float) -> bool:
    """Whether some network stays above the floor at every age while another falls through it."""
    above = [all(one.mean > floor for one in line) for line in lines]
    return any(above) and not all(above)


def draw_mean(
    axis: Axes,
    x: Sequence[float],
    summaries: Sequence[Summary],
    colour: str,
    label: str,
    linestyle: str = "-",
    marker: str = "o",
) -> None:
    """A line of means with a band of ± 1 standard deviation over chips; a point with a bar where there is only one."""
    low, high = [one.mean - band(one) for one in summaries], [one.mean + band(one) for one in summaries]
    if len(x) > 1:
        axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    else:  # a band has no width here
        axis.vlines(x, low, high, color=colour, alpha=0.4, linewidth=3)
    mean = [one.mean for one in summaries]
    axis.plot(x, mean, color=colour, linewidth=1.9, linestyle=linestyle, marker=marker, markersize=4.5, label=label)


def band(summary: Summary) -> float:
    """Half its height; 0 for a single chip."""
    return 0.0 if math.isnan(summary.std) else summary.std


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis, with a margin."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) + 0.05
    return low - margin, high + margin


def legend(figure: Figure, axis: Axes, low: str | None = None) -> None:
    """Below the figure: what the axis names and, for accuracy against age, how a line's companions are drawn.

    Args:
        figure, axis: what to explain.
        low: which chip is dashed; empty where there is one chip only; None for a figure without companions.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = axis.get_legend_handles_labels()[0]
    if low is not None:
        handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=1.1, label="drift-free"))
    if low:
        handles.append(Patch(color=GREY, alpha=0.25, linewidth=0, label="± 1 std over chips"))
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.2, label=low))
    for handle in handles:
        handle.set_label(textwrap.fill(str(handle.get_label()), int(_LEGEND_CHARACTERS * figure.get_figwidth())))
    for columns in range(4 if len(handles) > 5 else len(handles), 0, -1):
        drawn = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, fontsize=9, handlelength=2.8, frameon=False
        )
        extent = drawn.get_window_extent()
        if columns == 1 or extent.width <= figure.bbox.width:
            break
        drawn.remove()
    figure.set_figheight(figure.get_figheight() + max(extent.height / figure.dpi - _LEGEND_INCHES, 0.0))


def shades(count: int) -> list[Any]:
    """Colours of an ordered row."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.15 + 0.65 * index / max(count - 1, 1)) for index in range(count)]


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]
