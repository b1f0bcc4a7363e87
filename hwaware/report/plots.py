"""Figures as PNG files, drawn without a display, and beside each the same as SVG, which follows the reader's theme."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwaware.errors import UserError
from hwaware.evaluation import Row
from hwaware.files import replacing
from hwaware.report.costs import Costs, bytes_label, cost_of
from hwaware.report.labels import age_label, device_heading, heading, line_labels, metric_label
from hwaware.report.summary import LINE, SETTING, Summary, group_by, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hwaware.devices.device import Device
    from hwaware.sensitivity import LayerSensitivity

# Okabe and Ito's colours, which the colour-blind can tell apart. A network keeps its colour from figure to figure.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_OWN = {"finetuned": "#0072B2", "base": "#D55E00", "base_uncorrected": "#CC79A7"}
_GREY = "#555555"

_MARKERS = "os^Dv"
_DASHES = ("-", "--", ":", "-.")

#: Layers in the figure of their sensitivities.
_LAYERS_SHOWN = 25

#: A curve further below base digital than this many points would flatten those that stay above.
_ZOOM_POINTS = 12.0


def plot_accuracy(rows: Iterable[Row], path: str | Path, varying: Sequence[str] = ()) -> Path:
    """Accuracy against age for every network on one device, and returns the path.

    Mean over chips (line), ± one standard deviation (band) and the 5th-percentile chip (dashed); base digital and
    drift-free as horizontal lines. Age is logarithmic, with age 0 left of a break.

    Args:
        rows: measurements of one setting.
        path: the PNG file to write.
        varying: device parameters to name in the title besides the usual ones.
    """
    rows = list(rows)
    if len(group_by(rows, SETTING)) != 1:
        raise UserError("one figure shows one device with one mapping, metric and data set; select its rows first.")
    lines = group_by(summarise(rows), LINE)
    labels = line_labels(rows)
    colours = _colours(list(labels.items()))
    positions = _age_positions(row.age_s for row in rows)
    figure, axes = _accuracy_figure(list(lines.values()))
    crowded = len(lines) > len(_COLOURS)  # then only means and bands, and dashes tell lines of a colour apart
    for axis in axes:
        for number, (line, summaries) in enumerate(lines.items()):
            x = [positions[one.age_s] for one in summaries]
            if crowded:
                dashes = _DASHES[number // (len(_COLOURS) - 1) % len(_DASHES)]
                _draw_mean(axis, x, summaries, colours[line], labels[line], dashes)
            else:
                _draw_line(axis, x, summaries, labels[line], colours[line])
    _age_axis(axes[-1], positions)
    several = any(one.n_chips > 1 for line in lines.values() for one in line)
    _legend(figure, axes[0], several_chips=None if crowded else several)
    return _save(figure, axes[0], heading(rows, varying), path)


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
    colours = _colours(list(labels.items()))  # as in the figure of accuracy against age
    for line, same in group_by(rows, LINE).items():
        cost = {"bytes_stored": "0"} if same[0].method == "none" else cost_of(same[0], costs)
        if cost is not None:
            points.append((float(cost["bytes_stored"]), summarise(same)[0], line))
    stored = [count for count, _, _ in points if count > 0]
    if not stored:
        raise UserError("no repair with a cost: there is nothing to draw accuracy against.")
    nothing, edge = 10 ** (math.floor(math.log10(min(stored))) - 0.5), max(stored) * 10**0.5
    front, best = [], -math.inf
    for count, summary, _ in sorted(points, key=lambda point: (point[0], -point[1].mean)):
        if summary.mean > best:
            best = summary.mean
            front.append((count or nothing, best))
    figure, axes = _accuracy_figure([[summary] for _, summary, _ in points])
    for axis in axes:
        axis.step(*zip(*front, (edge, best), strict=True), where="post", color=_GREY, label="Pareto front", zorder=0.9)
        for number, (count, summary, line) in enumerate(points):
            marker = _MARKERS[number % len(_MARKERS)]
            axis.errorbar(count or nothing, summary.mean, _band(summary), color=colours[line], marker=marker, capsize=3,
                          markersize=7, linestyle="none", label=labels[line])  # fmt: skip
        axis.set_xscale("log")
        axis.set_xlim(nothing / 2, edge)
    axes[0].set_ylabel(_sentence(f"{metric_label(rows[0].metric)} at {age_label(last)} (%)"))
    axes[-1].set_xlabel(f"bytes stored (log scale); left of {bytes_label(nothing * 10**0.5)}: none")
    _legend(figure, axes[0])
    return _save(figure, axes[0], heading(rows, varying), path)


def plot_sets(
    points: Mapping[str, Sequence[tuple[float, int, bool]]], path: str | Path, title: tuple[str, str]
) -> Path:
    """How many sets a drift-aware schedule needs for an accuracy target; ringed where even they miss it at some age.

    Args:
        points: for each line, targets (percent of the drift-free accuracy), sets, and whether they reach the target.
        path: the PNG file to write.
        title: heading and second line.
    """
    figure, (axis,) = _figure(height=4.6, width=6.5)
    for number, (label, line) in enumerate(points.items()):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        targets, sets, _ = zip(*sorted(line), strict=True)
        axis.plot(targets, sets, color=colour, marker=marker, linewidth=1.9, label=label)
        missed = [(target, count) for target, count, reached in line if not reached]
        if missed:
            axis.plot(*zip(*missed, strict=True), color=colour, marker=marker, linestyle="none", fillstyle="none",
                      markersize=12, label=f"{label}: target missed")  # fmt: skip
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="target (% of the drift-free accuracy)", ylabel="sets of vectors stored")
    axis.set_ylim(bottom=0)
    _legend(figure, axis)
    return _save(figure, axis, title, path)


def plot_sensitivity(found: Sequence[LayerSensitivity], path: str | Path, title: tuple[str, str]) -> Path:
    """Points that each layer loses by itself, most first, and the accuracy with the first of them kept digital.

    Args:
        found: layers by rank.
        path: the PNG file to write.
        title: heading and second line.
    """
    shown = found[:_LAYERS_SHOWN]
    figure, (axis,) = _figure(height=1.6 + 0.27 * len(shown))
    places = range(len(shown))
    losses, spreads = [one.loss_points for one in shown], [one.loss_std for one in shown]
    axis.barh(places, losses, xerr=spreads, color=_COLOURS[0], height=0.7, error_kw={"ecolor": _GREY})
    axis.set_yticks(places, [one.layer for one in shown], fontsize=8)
    axis.invert_yaxis()
    for place, one in zip(places, shown, strict=True):
        if not math.isnan(one.kept_accuracy):
            text = f"{one.kept_accuracy:.1f} % without {one.kept_cells_percent:.2g} % of the cells"
            at = max(one.loss_points, 0.0) + one.loss_std
            axis.annotate(text, (at, place), (6, 0), textcoords="offset points", va="center", fontsize=7.5)
    axis.margins(x=0.35)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("points lost with this layer alone in cells; beside it: this and all above kept digital")
    return _save(figure, axis, title, path)


def plot_conductances(samples: Mapping[float, Any], path: str | Path, device: Device) -> Path:
    """Histograms of cell conductances at several ages, the programming window marked.

    Args:
        samples: age (s) to a vector of conductances (µS).
        path: the PNG file to write.
        device: whose cells they are.
    """
    import numpy as np

    values = {age: np.asarray(samples[age], dtype=float).ravel() for age in sorted(samples)}
    if not values or not all(one.size for one in values.values()):
        raise UserError("no conductances to draw: give at least one age with at least one cell.")
    every = np.concatenate([*values.values(), [device.g_min_us, device.g_max_us]])
    bins = np.linspace(every.min(), every.max(), 90)
    figure, axes = _figure(rows=len(values), height=1.2 + 1.1 * len(values), heights=(1,) * len(values), sharey=True)
    for axis, (age, one), colour in zip(axes, values.items(), _shades(len(values)), strict=True):
        share = np.full(one.size, 100.0 / one.size)
        axis.hist(one, bins=bins, weights=share, color=colour, alpha=0.9)
        for limit in (device.g_min_us, device.g_max_us):
            axis.axvline(limit, color=_GREY, linestyle=":", linewidth=1.2)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        text = f"age {age_label(age)}: mean {one.mean():.2f} µS, std {one.std():.2f} µS"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        axis.text(0.94, 0.9, text, transform=axis.transAxes, ha="right", va="top", fontsize=9, bbox=box)
    figure.supylabel("share of cells (%)", fontsize=10)
    axes[-1].set_xlabel("conductance (µS); dotted: programming window")
    return _save(figure, axes[0], device_heading(device), path)


def plot_device_law(device: Device, ages_s: Sequence[float], path: str | Path) -> Path:
    """How cells of a device change: mean shift and spread (µS) against the target, a line for each age.

    Args:
        device: whose cells they are.
        ages_s: ages in s.
        path: the PNG file to write.
    """
    import torch

    targets = torch.linspace(device.g_min_us, device.g_max_us, 200, dtype=torch.float64)
    figure, axes = _figure(rows=2, height=6.4, heights=(1, 1))
    for age_s, colour in zip(sorted(ages_s), _shades(len(ages_s)), strict=True):
        mean, std = device.cell_moments(targets, age_s)
        axes[0].plot(targets, mean - targets, color=colour, linewidth=1.7, label=age_label(age_s))
        axes[1].plot(targets, std, color=colour, linewidth=1.7)
    axes[0].axhline(0, color=_GREY, linewidth=0.8)
    axes[0].set_ylabel("mean shift (µS)")
    axes[1].set_ylabel("standard deviation (µS)")
    axes[1].set_ylim(bottom=0)
    axes[1].set_xlabel("target conductance (µS)")
    _legend(figure, axes[0])
    return _save(figure, axes[0], device_heading(device), path)


def plot_transform(device: Device, path: str | Path) -> Path:
    """The range-shrunk sinh curve: effective weight ``sinh(rκu)/sinh(rκ)`` against latent weight ``u ∈ [-1, 1]``."""
    import numpy as np

    u = np.linspace(-1, 1, 401)
    figure, (axis,) = _figure(height=5.5, width=5.5)
    axis.plot(u, u, color=_GREY, linestyle="--", linewidth=1.4, label="identity (linear cell)")
    if device.kappa is not None:
        curve = device.range_fraction * device.kappa
        label = f"sinh(rκu)/sinh(rκ), κ = {device.kappa:g}, r = {device.range_fraction:g}"
        axis.plot(u, np.sinh(curve * u) / np.sinh(curve), color=_COLOURS[0], linewidth=2.2, label=label)
    axis.set(xlabel="latent weight u = w/s", ylabel="effective weight w_eff/s", xlim=(-1, 1), ylim=(-1.02, 1.02))
    axis.grid(axis="x", alpha=0.25)
    axis.legend(loc="upper left", fontsize=9, frameon=False)
    return _save(figure, axis, device_heading(device), path)


def plot_range_sweep(rows: Iterable[Row], path: str | Path, age_s: float) -> Path:
    """Accuracy against the range fraction r for each κ at one age: corrected solid, uncorrected dashed, ± std band.

    ``rows`` differ in κ and r inside ``device_params`` and in nothing else of the device; networks other than ``base``
    and ``base_uncorrected``, and other ages, are left out.
    """
    rows = [row for row in rows if row.age_s == age_s and row.network in ("base", "base_uncorrected")]
    if not rows:
        raise UserError(f"no row of 'base' or 'base_uncorrected' at age {age_label(age_s)}: nothing to sweep.")
    swept = ("kappa", "range_fraction")
    if len({(*astuple(replace(row, **_UNSWEPT)), _without(row.device_params, swept)) for row in rows}) > 1:
        raise UserError("rows of a range sweep may differ in kappa and range_fraction only; select one device's first.")
    curves: dict[tuple[float, bool], list[tuple[float, Summary]]] = {}
    for one in summarise(rows):
        params = json.loads(one.device_params)
        curve = curves.setdefault((params["kappa"] or 0.0, one.network != "base"), [])
        curve.append((params["range_fraction"], one))

    kappas = sorted({kappa for kappa, _ in curves})  # linear cells first
    figure, axes = _accuracy_figure([[one for _, one in points] for points in curves.values()])
    for kappa, uncorrected in sorted(curves):
        r, summaries = zip(*sorted(curves[kappa, uncorrected], key=lambda point: point[0]), strict=True)
        label = f"κ = {kappa:g}, {'un' * uncorrected}corrected" if kappa else "linear cells"
        index = kappas.index(kappa)
        for axis in axes:
            _draw_mean(
                axis, r, summaries, _COLOURS[index % 7], label, "--" if uncorrected else "-", _MARKERS[index % 5]
            )
    axes[-1].set(xlabel="range fraction r (share of the conductance window in use)", xlim=(0, 1.02))
    _legend(figure, axes[0])
    title, conditions = heading(rows, swept=swept)
    return _save(figure, axes[0], (f"{title}, age {age_label(age_s)}", conditions), path)


def plot_input_range_sweep(rows: Iterable[Row], path: str | Path) -> Path:
    """Accuracy against the share r of the input voltage range, one line for each age, ± std band.

    ``rows`` differ in the converters' ``input_range``, in chips and in ages, and in nothing else.
    """
    rows = list(rows)
    if not rows or any("converters" not in json.loads(row.device_params) for row in rows):
        raise UserError("an input range sweep needs rows of networks with converters.")
    same = {(*astuple(replace(row, age_s=0.0, **_UNSWEPT)), row.network, _swept_input(row)[1]) for row in rows}
    if len(same) > 1:
        raise UserError("rows of an input range sweep may differ in input_range and age only; select some first.")
    ages: dict[float, list[tuple[float, Summary]]] = {}
    for one in summarise(rows):
        ages.setdefault(one.age_s, []).append((_swept_input(one)[0], one))

    figure, axes = _accuracy_figure([[one for _, one in points] for points in ages.values()])
    for index, age_s in enumerate(sorted(ages)):
        r, summaries = zip(*sorted(ages[age_s], key=lambda point: point[0]), strict=True)
        for axis in axes:
            _draw_mean(axis, r, summaries, _COLOURS[index % 7], age_label(age_s), "-", _MARKERS[index % 5])
    axes[-1].set(xlabel="input range r (share of the voltage range in use)", xlim=(0, 1.02))
    _legend(figure, axes[0])
    title, conditions = heading(rows, swept=("converters",))
    fixed = json.loads(_swept_input(rows[0])[1])["converters"].items()
    conditions = f"{conditions} · {', '.join(f'{name} = {value:g}' for name, value in fixed)}"
    return _save(figure, axes[0], (title, conditions), path)


def _swept_input(row: Row | Summary) -> tuple[float, str]:
    """The input range of a row, and the rest of its device parameters."""
    params = json.loads(row.device_params)
    return params["converters"].pop("input_range"), json.dumps(params, sort_keys=True)


#: Fields in which the rows of one sweep differ.
_UNSWEPT = {"network": "", "device_params": "", "chip_seed": 0, "value": 0.0, "drift_free": 0.0, "commit": ""}


def _without(params: str, names: Sequence[str]) -> str:
    return json.dumps({name: value for name, value in json.loads(params).items() if name not in names}, sort_keys=True)


def _figure(
    rows: int = 1, height: float = 4.8, width: float = 8.0, heights: Sequence[float] = (1,), sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    # Built without pyplot: no global state, no display, nothing to close.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, 1, sharex=True, sharey=sharey, squeeze=False, height_ratios=heights)[:, 0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    return figure, axes


def _accuracy_figure(lines: list[list[Summary]]) -> tuple[Figure, list[Axes]]:
    """Axes with base digital for these lines; where some fall far below the rest, a close-up above the whole range."""
    base = lines[0][0].base_digital
    floor = base - _ZOOM_POINTS
    split = _splits(lines, floor)
    figure, axes = _figure(rows=2 if split else 1, height=6.4 if split else 4.8, heights=(2.4, 1) if split else (1,))
    for axis in axes:
        axis.axhline(base, color="black", linewidth=1.2, label="base digital", zorder=0.9)
    axes[0].set_ylabel(_sentence(f"{metric_label(lines[0][0].metric)} (%)"))
    if split:
        near = [one for line in lines for one in line if one.mean > floor]
        low = [value for one in near for value in (one.p5, one.mean - _band(one), one.drift_free)]
        shown = [base, *(one.mean + _band(one) for one in near), *(max(value, floor) for value in low)]
        axes[0].set_ylim(*_limits(shown))
        axes[1].set_ylabel("whole range (%)")
        axes[1].set_ylim(0, 102)
    return figure, axes


def _save(figure: Figure, top: Axes, heading: tuple[str, str], path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    inches = figure.get_figwidth()
    title = figure.suptitle(textwrap.fill(heading[0], int(10.5 * inches)), fontsize=11, fontweight="bold", ha="left")
    top.set_title(textwrap.fill(heading[1], int(14 * inches)), fontsize=8.5, color=_GREY, loc="left")
    figure.draw_without_rendering()  # places the axes, whose edge both headings keep to
    title.set_x(top.get_position().x0)
    figure.savefig(path, dpi=150)
    _save_svg(figure, path.with_suffix(".svg"))
    return path


#: Colours of text, lines and paper, which a reader's dark theme changes; those of networks suit both.
_THEME = """
<style>
svg { --ink: #1b1f24; --muted: #555555; --paper: #ffffff; fill: var(--ink) }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --muted: #a3a9b1; --paper: #1a1d21 } }
</style>
"""
_THEMED = {"#000000": "var(--ink)", _GREY: "var(--muted)", "#ffffff": "var(--paper)"}


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


def _draw_line(axis: Axes, x: Sequence[float], summaries: Sequence[Summary], label: str, colour: str) -> None:
    _draw_mean(axis, x, summaries, colour, label)
    if any(one.n_chips > 1 for one in summaries):
        axis.plot(x, [one.p5 for one in summaries], color=colour, linewidth=1.2, linestyle="--")
    axis.axhline(summaries[0].drift_free, color=colour, linewidth=1.1, linestyle=":")


def _draw_mean(
    axis: Axes,
    x: Sequence[float],
    summaries: Sequence[Summary],
    colour: str,
    label: str,
    linestyle: str = "-",
    marker: str = "o",
) -> None:
    low, high = [one.mean - _band(one) for one in summaries], [one.mean + _band(one) for one in summaries]
    axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    mean = [one.mean for one in summaries]
    axis.plot(x, mean, color=colour, linewidth=1.9, linestyle=linestyle, marker=marker, markersize=4.5, label=label)


def _band(summary: Summary) -> float:
    return 0.0 if math.isnan(summary.std) else summary.std


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) + 0.05
    return low - margin, high + margin


def _age_positions(ages: Iterable[float]) -> dict[float, float]:
    """Where each age stands: log10 of seconds, and age 0 one step left of the youngest other."""
    positive = sorted({age for age in ages if age > 0})
    positions = {age: math.log10(age) for age in positive}
    span = (positions[positive[-1]] - positions[positive[0]]) if positive else 0.0
    positions[0.0] = (positions[positive[0]] if positive else 0.0) - max(0.9, 0.14 * span)
    return positions


def _age_axis(axis: Axes, positions: Mapping[float, float]) -> None:
    ages = sorted(positions)
    axis.set_xticks([positions[age] for age in ages], [age_label(age) for age in ages])
    if len(ages) > 1:  # the axis is cut between 0 and the first age on the logarithm
        cut = (positions[0.0] + positions[ages[1]]) / 2
        axis.plot([cut], [0], marker=[(-1, -2), (1, 2)], markersize=9, color="black", linestyle="none",
                  transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip
    axis.set_xlabel("age since programming (log scale)")


def _legend(figure: Figure, axis: Axes, several_chips: bool | None = None) -> None:
    """Below the figure: what the axis names and, for accuracy against age, how a line's companions are drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = axis.get_legend_handles_labels()[0]
    if several_chips is not None:
        handles.append(Line2D([], [], color=_GREY, linestyle=":", linewidth=1.1, label="drift-free"))
    if several_chips:
        handles.append(Patch(color=_GREY, alpha=0.25, linewidth=0, label="± 1 std over chips"))
        handles.append(Line2D([], [], color=_GREY, linestyle="--", linewidth=1.2, label="5th-percentile chip"))
    columns = 4 if len(handles) > 5 else len(handles)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=9, handlelength=2.8, frameon=False
    )


def _colours(labels: list[tuple[tuple[str, ...], str]]) -> dict[tuple[str, ...], str]:
    spare = itertools.cycle([colour for colour in _COLOURS if colour not in {_OWN.get(label) for _, label in labels}])
    return {line: _OWN.get(label) or next(spare) for line, label in labels}


def _shades(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.15 + 0.65 * index / max(count - 1, 1)) for index in range(count)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
