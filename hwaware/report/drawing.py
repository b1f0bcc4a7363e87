"""What figures share: axes, lines of means, legends, and saving as PNG without a display and as SVG beside it."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwaware.report.labels import metric_label
from hwaware.report.style import GREY, INK, WIDTH_IN
from hwaware.results.files import replacing
from hwaware.results.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: A curve further below base digital than this many points would flatten those that stay above.
_ZOOM_POINTS = 12.0

#: Characters of bold headings, of their second lines and of a legend's one label that an inch holds.
_HEADING_CHARACTERS, _SECOND_CHARACTERS, _LEGEND_CHARACTERS = 12.5, 16.5, 14

#: Height of a legend that figures have room for; they grow with a higher one.
_LEGEND_INCHES = 0.5


def new_figure(
    rows: int = 1, height: float = 3.0, heights: Sequence[float] = (1,), sharex: bool = True, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes below one another, as high (inches) as asked and as wide as all."""
    # Built without pyplot: no global state, no display, nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(
        figure.subplots(rows, 1, sharex=sharex, sharey=sharey, squeeze=False, height_ratios=heights)[:, 0]
    )


def accuracy_figure(lines: list[list[Summary]], chance: float | None = None) -> tuple[Figure, list[Axes]]:
    """Axes with base digital and chance for these lines; where some fall far below the rest, a close-up on top.

    Chance (percent) is drawn where it is nearer than what the lines have lost.
    """
    base = lines[0][0].base_digital
    floor = base - _ZOOM_POINTS
    split = _splits(lines, floor)
    figure, axes = new_figure(rows=2 if split else 1, height=4.2 if split else 3.1, heights=(2.4, 1) if split else (1,))
    for axis in axes:
        axis.axhline(base, color=INK, linewidth=1.0, label="base digital", zorder=0.9)
    lowest = min(one.mean for line in lines for one in line)
    if chance is not None and base - lowest > 0.5 * (base - chance):
        axes[-1].axhline(chance, color=GREY, linewidth=1.0, linestyle=(0, (1, 3)), zorder=0.9)
        axes[0].plot([], [], color=GREY, linewidth=1.0, linestyle=(0, (1, 3)), label=f"chance ({chance:.3g} %)")
    axes[0].set_ylabel(sentence(f"{metric_label(lines[0][0].metric)} (%)"))
    if split:
        near = [one for line in lines for one in line if one.mean > floor]
        low = [value for one in near for value in (one.shown_low, span(one)[0], one.drift_free)]
        shown = [base, *(span(one)[1] for one in near), *(max(value, floor) for value in low)]
        axes[0].set_ylim(*limits(shown))
        axes[1].set_ylabel("0–100 %")
        axes[1].set_ylim(0, 102)
    return figure, axes


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
    figure.suptitle(textwrap.fill(heading[0], int(_HEADING_CHARACTERS * inches)), x=left, ha="left")
    top.set_title(textwrap.fill(heading[1], int(_SECOND_CHARACTERS * inches)), color=GREY)
    figure.savefig(path)
    figure.set_layout_engine("none")  # the SVG has the places that the PNG has found
    _save_svg(figure, path.with_suffix(".svg"))


def _save_svg(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    drawn = io.BytesIO()
    with rc_context({"svg.hashsalt": path.stem}):  # the same file for the same figure
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    with replacing(path) as file:
        file.write(drawn.getvalue())


def _splits(lines: Sequence[list[Summary]], floor: float) -> bool:
    """Whether some network stays above the floor all the time while another falls through it.

    Not over two places, between which one that falls would leave a close-up at once.
    """
    above = [all(one.mean > floor for one in line) for line in lines]
    return any(above) and not all(above) and max(map(len, lines)) != 2


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
    low, high = zip(*map(span, summaries), strict=True)
    if len(x) > 1:
        axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    else:  # a band has no width here
        axis.vlines(x, low, high, color=colour, alpha=0.4, linewidth=3)
    axis.plot(x, [one.mean for one in summaries], color=colour, linestyle=linestyle, marker=marker, label=label)


def span(summary: Summary) -> tuple[float, float]:
    """One standard deviation over chips about the mean, within what percent can be; the mean for a single chip."""
    std = 0.0 if math.isnan(summary.std) else summary.std
    return max(summary.mean - std, min(0.0, summary.mean)), min(summary.mean + std, max(100.0, summary.mean))


def bar(summary: Summary) -> list[list[float]]:
    """:func:`span` as error bars take it."""
    low, high = span(summary)
    return [[summary.mean - low], [high - summary.mean]]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis, with a margin."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) + 0.05
    return low - margin, high + margin


def legend(figure: Figure, axis: Axes, low: str | None = None, more: Iterable[Any] = ()) -> None:
    """Below the figure: what the axis names and, for accuracy against age, how a line's companions are drawn.

    Args:
        figure, axis: what to explain.
        low: which chip is dashed; empty where there is one chip only; None for a figure without companions.
        more: further artists that have a label.
    """
    from matplotlib.lines import Line2D

    handles = [*axis.get_legend_handles_labels()[0], *more]
    if low is not None:
        handles.append(Line2D([], [], color=GREY, linestyle=":", linewidth=1.0, label="drift-free"))
    if low:
        handles.append(patch("± 1 std over chips", alpha=0.25))
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=1.0, label=low))
    for handle in handles:
        handle.set_label(textwrap.fill(str(handle.get_label()), int(_LEGEND_CHARACTERS * figure.get_figwidth())))
    for columns in range(4 if len(handles) > 5 else len(handles), 0, -1):
        drawn = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        extent = drawn.get_window_extent()
        if columns == 1 or extent.width <= figure.bbox.width:
            break
        drawn.remove()
    figure.set_figheight(figure.get_figheight() + max(extent.height / figure.dpi - _LEGEND_INCHES, 0.0))


def over_chips(lines: Iterable[Iterable[Summary]]) -> list[Any]:
    """What a legend says of the bands of :func:`draw_mean`; nothing where there is one chip only."""
    several = any(one.n_chips > 1 for line in lines for one in line)
    return [patch("± 1 std over chips", alpha=0.25)] * several


def patch(label: str, colour: str = GREY, alpha: float = 0.15) -> Any:
    """What a legend shows for a shaded part or a band."""
    from matplotlib.patches import Patch

    return Patch(color=colour, alpha=alpha, linewidth=0, label=label)


def shades(count: int) -> list[Any]:
    """Colours of an ordered row."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.08 + 0.77 * index / max(count - 1, 1)) for index in range(count)]


def plain_log(axis: Any) -> None:
    """A logarithmic axis (``axes.xaxis`` or ``axes.yaxis``) in plain numbers, 0.1, 0.2, 0.5, 1: no powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high > 300 * low else (1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]
