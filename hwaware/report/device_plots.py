"""Figures of a device: how cells change by state and age, on a chip and by the law, and the curve of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwaware.errors import UserError
from hwaware.report.drawing import legend, new_figure, patch, save, shades
from hwaware.report.labels import device_heading, marked_age
from hwaware.report.style import COLOURS, GREY, styled
from hwaware.results.setting import DeviceLabels

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: States by which a network's cells are told apart: all where there are no more of them, else so many equal parts of
#: the window. Those with too few cells say nothing of a spread.
_STATES, _CELLS_OF_STATE = 24, 20


@dataclass(frozen=True)
class LawCurve:
    """How working cells of a device have changed at one age, by their targets.

    Attributes:
        age_s: the age.
        target_us: targets (µS), a vector.
        shift_us, std_us: mean of conductance less target, and the conductance's standard deviation (µS), for each.
        open_us: half the 95 % intervals of both (µS), as far as the readings leave the constants open; None: not known.
    """

    age_s: float
    target_us: np.ndarray
    shift_us: np.ndarray
    std_us: np.ndarray
    open_us: tuple[np.ndarray, np.ndarray] | None = None


@styled
def plot_changes(
    target_us: np.ndarray, aged_us: Mapping[float, np.ndarray], of: DeviceLabels, path: str | Path
) -> Path:
    """How a network's cells have changed on one chip: how many have which target, their mean shift and their spread.

    Stuck cells and all errors are in it, as the network meets them. States with few cells are left out below.

    Args:
        target_us: targets (µS), a vector.
        aged_us: age (s) to the cells' conductances (µS), a vector each.
        of: the device whose cells they are.
        path: the PNG file to write.

    Raises:
        UserError: there is no age or no cell.
    """
    import numpy as np

    target_us = np.asarray(target_us, dtype=float)
    if not target_us.size or not aged_us:
        raise UserError("no conductances to draw: give at least one age with at least one cell.")
    states, held = _states(target_us, of.params["g_min_us"], of.params["g_max_us"])
    counts = np.bincount(held, minlength=len(states))
    enough = counts >= min(_CELLS_OF_STATE, counts.max())
    figure, (share, *axes) = new_figure(rows=3, height=4.6, heights=(0.7, 1, 1))
    share.vlines(states, 0, 100 * counts / target_us.size, color=GREY, linewidth=3)
    share.set_ylim(bottom=0)
    share.set_ylabel("cells (%)")
    for (age_s, g), colour in zip(sorted(aged_us.items()), shades(len(aged_us)), strict=True):
        change = np.asarray(g, dtype=float) - target_us
        mean = np.bincount(held, change, len(states)) / np.maximum(counts, 1)
        std = np.sqrt(np.bincount(held, (change - mean[held]) ** 2, len(states)) / np.maximum(counts - 1, 1))
        label, style = marked_age(age_s, of, " (extrapolated)"), "--" if of.extrapolates(age_s) else "-"
        for axis, value in zip(axes, (mean, std), strict=True):
            axis.plot(states[enough], value[enough], style, color=colour, marker="o", markersize=2.5, label=label)
    title, conditions = device_heading(of)
    return save_moments(
        figure, axes, "target conductance (µS)", (f"Cells of one chip: {title}", conditions), path, share
    )


def _states(target_us: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """The states (µS) that cells are written to, or the middles of parts of the window, and which of them each has."""
    import numpy as np

    states, held = np.unique(target_us.round(4), return_inverse=True)
    if len(states) <= _STATES:
        return states, held
    held = ((target_us - low) / (high - low) * _STATES).astype(int).clip(0, _STATES - 1)
    counts, sums = np.bincount(held, minlength=_STATES), np.bincount(held, target_us, _STATES)
    middles = low + (np.arange(_STATES) + 0.5) * (high - low) / _STATES
    return np.where(counts > 0, sums / np.maximum(counts, 1), middles), held


@styled
def plot_device_law(
    curves: Sequence[LawCurve], of: DeviceLabels, unmeasured_us: Iterable[tuple[float, float]], path: str | Path
) -> Path:
    """How cells of a device change: mean shift and spread (µS) against the target, a line for each age.

    Where the device says what was measured, ages beyond are dashed and states beyond shaded; where it says how far its
    constants are open, bands are 95 % intervals by that.

    Args:
        curves: by age, youngest first.
        of: the device whose cells they are.
        unmeasured_us: the parts of its window (µS) that no cell was written to.
        path: the PNG file to write.
    """
    figure, axes = new_figure(rows=2, height=4.2, heights=(1, 1))
    alike = [one for one in curves if _same(one, curves[0])]
    shown, label = (curves[:1], "at all ages") if len(alike) == len(curves) > 1 else (curves, None)
    for curve, colour in zip(shown, shades(len(shown)), strict=True):
        draw_law(axes, curve, of, colour, label)
    outside = list(unmeasured_us)
    for low, high in outside:
        for axis in axes:
            axis.axvspan(low, high, color=GREY, alpha=0.15, linewidth=0)
    more = [patch("95 % interval of the fit", alpha=0.2)] * any(curve.open_us is not None for curve in curves)
    more += [patch("states that were not measured")] * bool(outside)
    return save_moments(figure, axes, "target conductance (µS)", device_heading(of), path, more=more)


def save_moments(
    figure: Figure,
    axes: Sequence[Axes],
    against: str,
    heading: tuple[str, str],
    path: str | Path,
    top: Axes | None = None,
    more: Iterable[Any] = (),
) -> Path:
    """Finishes and writes a figure of conductances' mean shift (above) and standard deviation (below).

    Args:
        figure, axes: the figure and these two.
        against: what they are drawn against, with its unit; empty where the axis says it.
        heading, path: see :func:`hwaware.report.drawing.save`.
        top: the uppermost axes, where there are others above these two.
        more: what the legend has besides the lines.
    """
    axes[0].axhline(0, color=GREY, linewidth=0.8, zorder=0.9)
    axes[0].set_ylabel("mean shift (µS)")
    axes[1].set_ylabel("std over cells (µS)")
    axes[1].set_ylim(bottom=0)
    if against:
        axes[1].set_xlabel(against)
    legend(figure, axes[0], more=more)
    return save(figure, top or axes[0], heading, path)


def _same(one: LawCurve, other: LawCurve) -> bool:
    return all((getattr(one, name) == getattr(other, name)).all() for name in ("shift_us", "std_us"))


def draw_law(axes: Sequence[Axes], curve: LawCurve, of: DeviceLabels, colour: str, label: str | None = None) -> None:
    """Mean shift on the first and spread on the second of two axes, dashed at an age that was not measured.

    It is called by its age, where there is no other label.
    """
    label = label or marked_age(curve.age_s, of, " (extrapolated)")
    style = "--" if of.extrapolates(curve.age_s) else "-"
    axes[0].plot(curve.target_us, curve.shift_us, color=colour, linestyle=style, label=label)
    axes[1].plot(curve.target_us, curve.std_us, color=colour, linestyle=style)
    draw_bands(axes, curve.target_us, (curve.shift_us, curve.std_us), curve.open_us, colour)


def draw_bands(
    axes: Sequence[Axes],
    x: np.ndarray,
    values: tuple[np.ndarray, np.ndarray],
    half: tuple[np.ndarray, np.ndarray] | None,
    colour: str,
) -> None:
    """A band about what is drawn on each of two axes, where half its height is known."""
    for axis, value, height in zip(axes, values, half or (), strict=False):
        axis.fill_between(x, value - height, value + height, color=colour, alpha=0.2, linewidth=0)


@styled
def plot_transform(of: DeviceLabels, path: str | Path) -> Path:
    """The range-shrunk sinh curve: effective weight ``sinh(rκu)/sinh(rκ)`` against latent weight ``u ∈ [-1, 1]``."""
    import numpy as np

    u = np.linspace(-1, 1, 401)
    figure, (axis,) = new_figure(height=3.1)
    axis.plot(u, u, color=GREY, linestyle="--", label="identity (linear cell)")
    kappa, range_fraction = of.params["kappa"], of.params["range_fraction"]
    if kappa is not None:
        curve = range_fraction * kappa
        label = f"sinh(rκu)/sinh(rκ), κ = {kappa:g}, r = {range_fraction:g}"
        axis.plot(u, np.sinh(curve * u) / np.sinh(curve), color=COLOURS[0], label=label)
    axis.set(xlabel="latent weight u = w/s", ylabel="effective weight w_eff/s", xlim=(-1, 1), ylim=(-1.02, 1.02))
    axis.grid(axis="x")
    axis.legend(loc="upper left")
    return save(figure, axis, device_heading(of), path)
