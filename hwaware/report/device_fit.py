"""What a fit of own measurements found, as figures and a table. Extrapolation is marked in all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from hwaware.report.age_axis import label_ages, round_ages
from hwaware.report.device_plots import LawCurve, draw_bands, draw_law, save_moments
from hwaware.report.drawing import new_figure, patch, shades
from hwaware.report.labels import age_label
from hwaware.report.style import COLOURS, GREY, styled
from hwaware.results.agreement import Agreement
from hwaware.results.setting import DeviceLabels, group_by

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How far (decades) dots of one age stand beside one another, so that none hides another.
_BESIDE = 0.06

#: Half a 95 % interval in standard errors.
_Z_95 = 1.959964


@dataclass(frozen=True)
class Course:
    """Working cells of one target over time, as a fitted law has them.

    Attributes:
        target_us: the target.
        age_s: ages, a vector.
        shift_us, std_us: mean of conductance less target, and the conductance's standard deviation (µS), at each.
        extrapolated: whether the ages are outside those measured.
        open_us: half the 95 % intervals of both (µS), as far as the readings leave the constants open; None: not known.
    """

    target_us: float
    age_s: np.ndarray
    shift_us: np.ndarray
    std_us: np.ndarray
    extrapolated: bool
    open_us: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class FittedLaw:
    """A fitted law as its figures show it.

    Attributes:
        of: the device.
        form: the law's form.
        read: what was: ``120 cells``.
        measured_s: first and last age above 0 (s) at which they were; 0: at none.
        shown_s: first and last age (s) of the courses.
        courses: over time, those of a target after one another.
        curves: by state, at measured ages and at one to come.
    """

    of: DeviceLabels
    form: str
    read: str
    measured_s: tuple[float, float]
    shown_s: tuple[float, float]
    courses: Sequence[Course]
    curves: Sequence[LawCurve]


def agreement_table(rows: Sequence[Agreement]) -> Table:
    """For the terminal: measured against fitted, by age."""
    by_age = Table("age", title="conductance less target (µS), over all targets; * extrapolated")
    for name in ("cells", "mean, measured", "fitted", "std, measured", "fitted ", "set aside (%)"):
        by_age.add_column(name, justify="right")
    for age_s, here in group_by(rows, ["time_s"]).items():
        cells = [one.cells or 1 for one in here]
        beyond = here[0].extrapolated
        label = age_label(age_s) + " *" * beyond
        means = [_average([getattr(one, f"{kind}_shift_us") for one in here], cells) for kind in ("measured", "fitted")]
        stds = [_pooled(here, kind) for kind in ("measured", "fitted")]
        numbers = ["–" if math.isnan(value) else f"{value:.3f}" for value in (*means, *stds)]
        aside = f"{100 * _average([one.set_aside for one in here], cells):.2g}"
        by_age.add_row(label, str(sum(one.cells for one in here) or "–"), *numbers, "–" if beyond else aside)
    return by_age


@styled
def plot_over_time(law: FittedLaw, rows: Sequence[Agreement], path: Path) -> Path:
    """Mean shift and standard deviation against age, a line per target; as measured, where it was, in dots."""
    figure, axes = new_figure(rows=2, height=4.4, heights=(1, 1))
    courses = group_by(law.courses, ["target_us"])
    for number, ((target, own), colour) in enumerate(zip(courses.items(), shades(len(courses)), strict=True)):
        beside = _BESIDE * (number - (len(courses) - 1) / 2)
        here = [one for one in rows if one.target_us == target and one.time_s > 0 and one.cells]
        _draw_measured(axes, [math.log10(one.time_s) + beside for one in here], here, colour)
        for course in own:
            style, label = "--" if course.extrapolated else "-", f"{target:.4g} µS" if course is own[0] else None
            log_s = np.log10(course.age_s)
            axes[0].plot(log_s, course.shift_us, style, color=colour, label=label)
            axes[1].plot(log_s, course.std_us, style, color=colour)
            draw_bands(axes, log_s, (course.shift_us, course.std_us), course.open_us, colour)
    (first, last), (youngest, oldest) = law.measured_s, law.shown_s
    for axis in axes:
        for start, end in ((youngest, first), (last or youngest, oldest)):
            if start < end:
                axis.axvspan(math.log10(start), math.log10(end), color=GREY, alpha=0.15, linewidth=0)
    label_ages(axes[1], round_ages(youngest, oldest))
    states = {one.target_us for one in rows if one.cells}
    drawn = f"{len(courses)} of {len(states)} states" if len(courses) < len(states) else "all states"
    more = [*_legend(law), patch("ages that were not measured")]
    return save_moments(figure, axes, "", _heading(law, drawn), path, more=more)


@styled
def plot_by_state(law: FittedLaw, rows: Sequence[Agreement], path: Path) -> Path:
    """Mean shift and standard deviation against the target, a line per age; age 0 is the programming error."""
    figure, axes = new_figure(rows=2, height=4.4, heights=(1, 1))
    measured_s = {one.time_s for one in rows if one.cells}
    for curve, colour in zip(law.curves, _colours(law.curves, measured_s), strict=True):
        here = [one for one in rows if one.time_s == curve.age_s and one.cells]
        draw_law(axes, curve, law.of, colour)
        _draw_measured(axes, [one.target_us for one in here], here, colour)
    count = sum(curve.age_s in measured_s for curve in law.curves)
    drawn = f"{count} of {len(measured_s)} measured ages" if count < len(measured_s) else "all measured ages"
    return save_moments(figure, axes, "target conductance (µS)", _heading(law, drawn), path, more=_legend(law))


def _draw_measured(axes: Sequence[Axes], x: Sequence[float], rows: Sequence[Agreement], colour: Any) -> None:
    """Dots, with 95 % intervals by how many cells they are of."""
    for axis, kind, scale in ((axes[0], "measured_shift_us", 1.0), (axes[1], "measured_std_us", math.sqrt(0.5))):
        error = [_Z_95 * scale * one.measured_std_us / math.sqrt(max(one.cells - 1, 1)) for one in rows]
        values = [getattr(one, kind) for one in rows]
        axis.errorbar(x, values, error, fmt="o", color=colour, markersize=3, linewidth=0.8, capsize=1.5)


def _legend(law: FittedLaw) -> list[Any]:
    """What dots, lines and bands are."""
    from matplotlib.lines import Line2D

    bands = any(one.open_us is not None for one in law.courses)
    return [
        Line2D(
            [], [], color=GREY, marker="o", markersize=3, linestyle="none", label="measured, 95 % interval over cells"
        ),
        Line2D([], [], color=GREY, label="fitted"),
        Line2D([], [], color=GREY, linestyle="--", label="extrapolated"),
        *[patch("95 % interval of the fit (cells drawn with replacement)", alpha=0.2)] * bands,
    ]


def _colours(curves: Sequence[LawCurve], measured_s: set[float]) -> Iterator[Any]:
    """Shades for the measured ages, and one that stands out for what is not."""
    measured = [curve.age_s in measured_s for curve in curves]
    shade = iter(shades(sum(measured)))
    return (next(shade) if one else COLOURS[1] for one in measured)


def _heading(law: FittedLaw, drawn: str) -> tuple[str, str]:
    first, last = map(age_label, law.measured_s)
    ages = f"just written and {first} to {last}" if law.measured_s[1] else "just written"
    return f"{law.of.device}: {law.form}", f"{law.read}, {ages} · drawn: {drawn}"


def _pooled(rows: Sequence[Agreement], kind: str) -> float:
    """Standard deviation of readings about their states' means; NaN where no state was read in two cells."""
    # An extrapolated state has no cells, and counts like any other.
    known = [(getattr(one, f"{kind}_std_us") ** 2, one.cells - 1 if one.cells else 1) for one in rows]
    known = [(variance, weight) for variance, weight in known if weight and math.isfinite(variance)]
    return math.sqrt(_average(*zip(*known, strict=True))) if known else math.nan


def _average(values: Sequence[float], weights: Sequence[float]) -> float:
    return float(np.average(values, weights=weights))
