"""Figures of a device: conductances, the curve, the law."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwaware.errors import UserError
from hwaware.report.drawing import (
    COLOURS,
    GREY,
    new_figure,
    save,
    save_moments,
    shades,
)
from hwaware.report.labels import device_heading, marked_age
from hwaware.results.setting import DeviceLabels

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes


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


def plot_conductances(samples: Mapping[float, np.ndarray], of: DeviceLabels, path: str | Path) -> Path:
    """Histograms of cell conductances at several ages, the programming window marked.

    Args:
        samples: age (s) to a vector of conductances (µS).
        of: the device whose cells they are.
        path: the PNG file to write.
    """
    import numpy as np

    window = of.params["g_min_us"], of.params["g_max_us"]
    values = {age: np.asarray(samples[age], dtype=float).ravel() for age in sorted(samples)}
    if not values or not all(one.size for one in values.values()):
        raise UserError("no conductances to draw: give at least one age with at least one cell.")
    every = np.concatenate([*values.values(), window])
    bins = np.linspace(every.min(), every.max(), 90).tolist()
    figure, axes = new_figure(rows=len(values), height=1.2 + 1.1 * len(values), heights=(1,) * len(values), sharey=True)
    for axis, (age, one), colour in zip(axes, values.items(), shades(len(values)), strict=True):
        share = np.full(one.size, 100.0 / one.size)
        axis.hist(one, bins=bins, weights=share, color=colour, alpha=0.9)
        for limit in window:
            axis.axvline(limit, color=GREY, linestyle=":", linewidth=1.2)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        text = f"age {marked_age(age, of, ' (extrapolated)')}: mean {one.mean():.2f} µS, std {one.std():.2f} µS"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        axis.text(0.94, 0.9, text, transform=axis.transAxes, ha="right", va="top", fontsize=9, bbox=box)
    figure.supylabel("share of cells (%)", fontsize=10)
    axes[-1].set_xlabel("conductance (µS); dotted: programming window")
    return save(figure, axes[0], device_heading(of), path)


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
    figure, axes = new_figure(rows=2, height=6.4, heights=(1, 1))
    for curve, colour in zip(curves, shades(len(curves)), strict=True):
        draw_law(axes, curve, of, colour)
    for low, high in unmeasured_us:
        for axis in axes:
            axis.axvspan(low, high, color=GREY, alpha=0.15, linewidth=0)
    return save_moments(figure, axes, "target conductance (µS)", device_heading(of), path)


def draw_law(axes: Sequence[Axes], curve: LawCurve, of: DeviceLabels, colour: str) -> None:
    """Mean shift on the first and spread on the second of two axes, dashed at an age that was not measured."""
    label = marked_age(curve.age_s, of, " (extrapolated)")
    style = "--" if of.extrapolates(curve.age_s) else "-"
    axes[0].plot(curve.target_us, curve.shift_us, color=colour, linewidth=1.7, linestyle=style, label=label)
    axes[1].plot(curve.target_us, curve.std_us, color=colour, linewidth=1.7, linestyle=style)
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


def plot_transform(of: DeviceLabels, path: str | Path) -> Path:
    """The range-shrunk sinh curve: effective weight ``sinh(rκu)/sinh(rκ)`` against latent weight ``u ∈ [-1, 1]``."""
    import numpy as np

    u = np.linspace(-1, 1, 401)
    figure, (axis,) = new_figure(height=5.5, width=5.5)
    axis.plot(u, u, color=GREY, linestyle="--", linewidth=1.4, label="identity (linear cell)")
    kappa, range_fraction = of.params["kappa"], of.params["range_fraction"]
    if kappa is not None:
        curve = range_fraction * kappa
        label = f"sinh(rκu)/sinh(rκ), κ = {kappa:g}, r = {range_fraction:g}"
        axis.plot(u, np.sinh(curve * u) / np.sinh(curve), color=COLOURS[0], linewidth=2.2, label=label)
    axis.set(xlabel="latent weight u = w/s", ylabel="effective weight w_eff/s", xlim=(-1, 1), ylim=(-1.02, 1.02))
    axis.grid(axis="x", alpha=0.25)
    axis.legend(loc="upper left", fontsize=9, frameon=False)
    return save(figure, axis, device_heading(of), path)
