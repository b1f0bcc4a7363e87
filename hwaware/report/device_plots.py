"""Figures of a device: conductances, the curve, the law; and of the layers that it hurts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwaware.errors import UserError
from hwaware.report.drawing import (
    COLOURS,
    GREY,
    new_figure,
    save,
    save_moments,
    shades,
)
from hwaware.report.labels import device_heading, hardware_heading, marked_age

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hwaware.evaluation.sensitivity import LayerSensitivity
    from hwaware.hardware import Device, Hardware

#: Layers in the figure of their sensitivities.
_LAYERS_SHOWN = 25


def plot_sensitivity(found: Sequence[LayerSensitivity], path: str | Path, title: tuple[str, str]) -> Path:
    """Points that each layer loses by itself, most first, and the accuracy with the first of them kept digital.

    Args:
        found: layers by rank.
        path: the PNG file to write.
        title: heading and second line.
    """
    shown = found[:_LAYERS_SHOWN]
    figure, (axis,) = new_figure(height=1.6 + 0.27 * len(shown))
    places = range(len(shown))
    losses, spreads = [one.loss_points for one in shown], [one.loss_std for one in shown]
    axis.barh(places, losses, xerr=spreads, color=COLOURS[0], height=0.7, error_kw={"ecolor": GREY})
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
    return save(figure, axis, title, path)


def plot_conductances(samples: Mapping[float, Any], path: str | Path, hardware: Hardware) -> Path:
    """Histograms of cell conductances at several ages, the programming window marked.

    Args:
        samples: age (s) to a vector of conductances (µS).
        path: the PNG file to write.
        hardware: whose cells they are.
    """
    import numpy as np

    device, params = hardware.device, hardware.device.params()
    values = {age: np.asarray(samples[age], dtype=float).ravel() for age in sorted(samples)}
    if not values or not all(one.size for one in values.values()):
        raise UserError("no conductances to draw: give at least one age with at least one cell.")
    every = np.concatenate([*values.values(), [device.g_min_us, device.g_max_us]])
    bins = np.linspace(every.min(), every.max(), 90)
    figure, axes = new_figure(rows=len(values), height=1.2 + 1.1 * len(values), heights=(1,) * len(values), sharey=True)
    for axis, (age, one), colour in zip(axes, values.items(), shades(len(values)), strict=True):
        share = np.full(one.size, 100.0 / one.size)
        axis.hist(one, bins=bins, weights=share, color=colour, alpha=0.9)
        for limit in (device.g_min_us, device.g_max_us):
            axis.axvline(limit, color=GREY, linestyle=":", linewidth=1.2)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        text = f"age {marked_age(age, params, ' (extrapolated)')}: mean {one.mean():.2f} µS, std {one.std():.2f} µS"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        axis.text(0.94, 0.9, text, transform=axis.transAxes, ha="right", va="top", fontsize=9, bbox=box)
    figure.supylabel("share of cells (%)", fontsize=10)
    axes[-1].set_xlabel("conductance (µS); dotted: programming window")
    return save(figure, axes[0], hardware_heading(hardware), path)


def plot_device_law(device: Device, ages_s: Sequence[float], path: str | Path) -> Path:
    """How cells of a device change: mean shift and spread (µS) against the target, a line for each age.

    Where the device says what was measured, ages beyond are dashed and states beyond shaded.

    Args:
        device: whose cells they are.
        ages_s: ages in s.
        path: the PNG file to write.
    """
    figure, axes = new_figure(rows=2, height=6.4, heights=(1, 1))
    for age_s, colour in zip(sorted(ages_s), shades(len(ages_s)), strict=True):
        draw_law(axes, device, age_s, colour)
    for low, high in device.unmeasured_us:
        for axis in axes:
            axis.axvspan(low, high, color=GREY, alpha=0.15, linewidth=0)
    return save_moments(figure, axes, "target conductance (µS)", device_heading(device), path)


def draw_law(axes: Sequence[Axes], device: Device, age_s: float, colour: str) -> None:
    """Mean shift on the first and spread on the second of two axes, dashed at an age that was not measured."""
    import torch

    targets = torch.linspace(device.g_min_us, device.g_max_us, 200, dtype=torch.float64)
    mean, std = device.cell_moments(targets, age_s)
    label = marked_age(age_s, device.params(), " (extrapolated)")
    style = "--" if device.extrapolates(age_s) else "-"
    axes[0].plot(targets, mean - targets, color=colour, linewidth=1.7, linestyle=style, label=label)
    axes[1].plot(targets, std, color=colour, linewidth=1.7, linestyle=style)


def plot_transform(hardware: Hardware, path: str | Path) -> Path:
    """The range-shrunk sinh curve: effective weight ``sinh(rκu)/sinh(rκ)`` against latent weight ``u ∈ [-1, 1]``."""
    import numpy as np

    u = np.linspace(-1, 1, 401)
    figure, (axis,) = new_figure(height=5.5, width=5.5)
    axis.plot(u, u, color=GREY, linestyle="--", linewidth=1.4, label="identity (linear cell)")
    if hardware.encoding.curve:
        curve, encoding = hardware.encoding.curve, hardware.encoding
        label = f"sinh(rκu)/sinh(rκ), κ = {encoding.kappa:g}, r = {encoding.range_fraction:g}"
        axis.plot(u, np.sinh(curve * u) / np.sinh(curve), color=COLOURS[0], linewidth=2.2, label=label)
    axis.set(xlabel="latent weight u = w/s", ylabel="effective weight w_eff/s", xlim=(-1, 1), ylim=(-1.02, 1.02))
    axis.grid(axis="x", alpha=0.25)
    axis.legend(loc="upper left", fontsize=9, frameon=False)
    return save(figure, axis, hardware_heading(hardware), path)
