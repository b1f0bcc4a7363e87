"""What a fit of own measurements found: tables for the terminal, CSV, figures. Extrapolation is marked in all."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from hwaware.errors import UserError
from hwaware.hardware.devices import device_file
from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.fit import estimate
from hwaware.hardware.devices.fit.cleaning import MOST_STATES, OUTLIER_IQR, STUCK_WITHIN, bins, grouped_ages
from hwaware.hardware.devices.fit.estimate import BOOTSTRAP_SEED, FOLDS, TOLERATED_ERRORS, Fit
from hwaware.report.device_plots import draw_law
from hwaware.report.drawing import COLOURS, GREY, new_figure, save_moments, shades
from hwaware.report.labels import age_label
from hwaware.results.files import refuse_folder, replacing_together

#: Ages (s) that are shown beyond the measured ones.
_LATER_S = (86400.0, 604800.0, 2592000.0, 31536000.0, 315360000.0)

_AGES_DRAWN, _STATES_DRAWN = 5, 5

#: What the names of a fit's files end in, but the device file's.
_RESULTS = ("parameters.csv", "states.csv", "time.png", "time.svg", "state.png", "state.svg")

#: Cells of a state, at least, and readings at a limit, at most, whose moments count in the goodness of fit.
_FEW, _CUT_OFF = 8, 0.05

#: Standard errors of misfit from which on the remarks warn.
_POOR = 3.0


@dataclass(frozen=True)
class Agreement:
    """Cells of one target (or of neighbouring ones) at one age, as measured and as fitted; NaN: not measured.

    Attributes:
        time_s: the age.
        target_us: the target, or the mean of neighbouring ones, over all ages.
        cells: how many were read.
        measured_shift_us, fitted_shift_us: mean of conductance less target.
        measured_std_us, fitted_std_us: its standard deviation, a single read's; at age 0 with the noise that repeats
            then have.
        cut_off: share of readings at a limit.
        set_aside: share of readings that were set aside as outlying.
        extrapolated: whether the age is outside those measured.
    """

    time_s: float
    target_us: float
    cells: int
    measured_shift_us: float
    fitted_shift_us: float
    measured_std_us: float
    fitted_std_us: float
    cut_off: float
    set_aside: float
    extrapolated: bool


def agreement(fit: Fit) -> list[Agreement]:
    """By age and target, and for later ages by target; stuck cells and outliers are not in it."""
    readings, device = fit.cleaned.readings, fit.device
    aside, n = fit.cleaned.aside, len(readings)
    every_bin = bins(np.concatenate([readings.target_us, aside.target_us]), MOST_STATES)
    every_s = grouped_ages(np.concatenate([readings.time_s, aside.time_s]))
    bin_of, time_s = every_bin[:n], every_s[:n]
    # One target per bin at all ages, whatever readings are missing: figures draw a line for each.
    targets_us = np.bincount(bin_of, readings.target_us) / np.maximum(np.bincount(bin_of), 1)
    cut_off = np.isin(readings.conductance_us, [limit for limit in fit.cleaned.limits_us if limit is not None])
    found = []
    for age_s in np.unique(time_s):
        for one in np.unique(bin_of):
            here = (time_s == age_s) & (bin_of == one)
            if not here.any():
                continue
            shift = readings.conductance_us[here] - readings.target_us[here]
            measured = float(shift.mean()), float(shift.std(ddof=1)) if len(shift) > 1 else math.nan
            fitted = _fitted(device, readings.target_us[here], float(age_s))
            n_aside = ((every_s[n:] == age_s) & (every_bin[n:] == one)).sum()
            shares = float(cut_off[here].mean()), float(n_aside / (n_aside + here.sum()))
            target, cells = float(targets_us[one]), len(np.unique(readings.cell[here]))
            noise = 0.0 if fit.cleaned.noise_us is None else math.sqrt(np.mean(fit.cleaned.noise_us[here] ** 2))
            moments = measured[0], fitted[0], measured[1], math.hypot(fitted[1], noise)
            found.append(Agreement(float(age_s), target, cells, *moments, *shares, False))
    for age_s in _later_s(device):
        for one in np.unique(bin_of):
            shift, std = _fitted(device, readings.target_us[bin_of == one], age_s)
            found.append(Agreement(age_s, float(targets_us[one]), 0, math.nan, shift, math.nan, std, 0.0, 0.0, True))
    return found


def _later_s(device: Device) -> tuple[float, ...]:
    return tuple(age_s for age_s in _LATER_S if age_s > device.measured_s[1]) if device.has_time_law else ()


def misfit(rows: Sequence[Agreement]) -> tuple[float, float]:
    """Root mean square of measured less fitted means, and of standard deviations, in standard errors: 1 is perfect.

    States that are cut off are left out: their moments are no Gaussian's.
    """
    known = [one for one in rows if one.cells >= _FEW and one.cut_off <= _CUT_OFF and one.measured_std_us > 0]
    means = [(one.measured_shift_us - one.fitted_shift_us) / one.fitted_std_us * math.sqrt(one.cells) for one in known]
    stds = [math.log(one.measured_std_us / one.fitted_std_us) * math.sqrt(2 * one.cells) for one in known]
    return tuple(math.sqrt(np.mean(np.square(values))) if values else math.nan for values in (means, stds))


def fit_files(out: str | Path, measured_in: str | Path) -> list[Path]:
    """The files of a fit: the device file ``out`` and, beside it, tables and figures under its stem.

    Raises:
        UserError: one of them is a folder, or the file of the readings.
    """
    out = Path(out)
    files = [out, *(out.with_name(f"{out.stem}_{end}") for end in _RESULTS)]
    for file in files:
        refuse_folder(file)
        if file.resolve() == Path(measured_in).resolve():
            raise UserError(f"device fit: --out '{out}' would overwrite the readings in '{measured_in}'.")
    return files


def write_fit(fit: Fit, rows: Sequence[Agreement], out: str | Path, measured_in: str | Path) -> list[Path]:
    """Writes the :func:`fit_files`, in one go at the end.

    Args:
        fit: what was found.
        rows: how well it agrees, of :func:`agreement`.
        out: path of the device file, ending in ``.yaml``.
        measured_in: the file of the readings, which the device file names.
    """
    out, files = Path(out), fit_files(out, measured_in)
    with replacing_together(out.parent) as folder:
        text = _header(fit, rows, Path(measured_in).name) + device_file(fit.device)
        (folder / out.name).write_text(text, encoding="utf-8")
        parameters, states, time, _, state, _ = (folder / file.name for file in files[1:])
        parameters.write_text(_csv([asdict(one) for one in fit.estimates]), encoding="utf-8")
        table = _csv([{**asdict(one), "extrapolated": int(one.extrapolated)} for one in rows])
        states.write_text(table, encoding="utf-8")
        _plot_over_time(fit, rows, time)
        _plot_by_state(fit, rows, state)
    return files


def fit_tables(fit: Fit, rows: Sequence[Agreement]) -> list[Table]:
    """For the terminal: the forms, the constants, and measured against fitted by age (of :func:`agreement`)."""
    forms = Table("form", title=f"forms by held-out log-likelihood per cell ({FOLDS} folds over cells)")
    for name in ("constants", "per cell", "behind the best ± error"):
        forms.add_column(name, justify="right")
    for one in fit.tried:
        name = f"{one.name} (chosen)" if one.name == fit.chosen else one.name
        known = (f"{one.held_out:.4f}", f"{one.behind:.4f} ± {one.behind_error:.4f}")
        forms.add_row(name, str(one.n_constants), *(("not fitted", one.reason) if one.reason else known))
    constants = Table("parameter", title=f"{fit.device.name}: {fit.chosen}")
    for name in ("value", "95 % interval"):
        constants.add_column(name, justify="right")
    for one in fit.estimates:
        ends = "not identifiable" if math.isnan(one.low) else f"{one.low:.4g} … {one.high:.4g}"
        constants.add_row(one.name, f"{one.value:.5g}", ends)
    by_age = Table("age", title="conductance less target (µS), over all targets; * extrapolated")
    for name in ("cells", "mean, measured", "fitted", "std, measured", "fitted ", "set aside (%)"):
        by_age.add_column(name, justify="right")
    for age_s in dict.fromkeys(one.time_s for one in rows):
        here = [one for one in rows if one.time_s == age_s]
        cells = [one.cells or 1 for one in here]
        beyond = here[0].extrapolated
        label = age_label(age_s) + " *" * beyond
        means = [_average([getattr(one, f"{kind}_shift_us") for one in here], cells) for kind in ("measured", "fitted")]
        stds = [_pooled(here, kind) for kind in ("measured", "fitted")]
        numbers = ["–" if math.isnan(value) else f"{value:.3f}" for value in (*means, *stds)]
        aside = f"{100 * _average([one.set_aside for one in here], cells):.2g}"
        by_age.add_row(label, str(sum(one.cells for one in here) or "–"), *numbers, "–" if beyond else aside)
    return [forms, constants, by_age]


def fit_remarks(fit: Fit, rows: Sequence[Agreement]) -> list[str]:
    """What else is to be said: how well it fits, what was set aside, what the readings can't tell."""
    means, stds = misfit(rows)
    cleaned = fit.cleaned
    remarks = [
        f"Misfit by state and age in standard errors (1 is perfect): means {means:.2f}, spreads {stds:.2f}."
        + " POOR: no law here describes these readings; see the figures before using it." * (max(means, stds) > _POOR),
        f"Intervals (95 %): {estimate.BOOTSTRAP_DRAWS} fits to cells drawn with replacement, seed {BOOTSTRAP_SEED}.",
        f"Set aside: {cleaned.stuck_on[0]} + {cleaned.stuck_off[0]} cells stuck on + off (all their readings within "
        f"{100 * STUCK_WITHIN:g} % of the window from the end that their target is farther from), "
        f"{len(cleaned.aside)} readings, outlying (beyond {OUTLIER_IQR:g} interquartile ranges from the quartiles of "
        "their state and age) where a repeat or a later age is not, or all of a dead cell "
        f"({len(cleaned.dead)}: outlying when just written and mostly); {cleaned.readings.left_out} rows without a "
        f"time or conductance. Kept: {len(cleaned.departed)} outlying readings of cells that stay there.",
    ]
    if fit.derived:
        numbers = ", ".join(f"{name} = {value:.4g}" for name, value in fit.derived.items())
        remarks.append(f"Set by the form, from what was fitted or measured: {numbers}.")
    return remarks + [one[:1].upper() + one[1:] for one in fit.notes]


def _header(fit: Fit, rows: Sequence[Agreement], measured_in: str) -> str:
    device, readings = fit.device, fit.cleaned.readings
    first, last = device.measured_s
    lines = [
        f"Fitted by `hwaware device fit` to {len(readings)} readings of {readings.n_cells} cells in {measured_in}.",
        f"Measured: ages {first:g} to {last:g} s ({age_label(first)} to {age_label(last)}) and age 0, targets "
        f"{device.measured_us[0]:g} to {device.measured_us[1]:g} µS. All beyond is extrapolated.",
        "Not measured, and so at their defaults: mapping, scale, kappa (the cell's curve)"
        + (f", read_time_s ({device.read_time_s:g})" if hasattr(device, "read_time_s") else "")
        + ". g_min_us and g_max_us are the lowest and the highest target, not what cells can do.",
        f"The clamp is '{device.clamp}': "
        + (
            "readings pile up at the lowest or highest target, and hardly any is beyond."
            if device.clamp == "window"
            else "no pile of readings at the lowest or highest target says otherwise."
        ),
        *fit_remarks(fit, rows),
        f"Form '{fit.chosen}', by held-out log-likelihood per cell ({FOLDS} folds over cells; fewest constants within "
        f"{TOLERATED_ERRORS:g} standard errors of the best):",
    ]
    for one in fit.tried:
        known = f"{one.held_out:.4f} ({one.n_constants} constants; behind {one.behind:.4f} ± {one.behind_error:.4f})"
        lines.append(f"  {one.name}: " + (f"not fitted: {one.reason}" if one.reason else known))
    return "".join(f"# {' '.join(line.split()) if line[0] != ' ' else line}\n" for line in lines)


def _fitted(device: Device, targets_us: np.ndarray, age_s: float) -> tuple[float, float]:
    """Mean and standard deviation of conductance less target, over cells with these targets."""
    states, counts = np.unique(targets_us, return_counts=True)
    mean, std = (moment.numpy() for moment in device.cell_moments(torch.from_numpy(states), age_s))
    shift = _average(mean - states, counts)
    return shift, math.sqrt(_average(std**2 + (mean - states - shift) ** 2, counts))


def _pooled(rows: Sequence[Agreement], kind: str) -> float:
    """Standard deviation of readings about their states' means; NaN where no state was read in two cells."""
    # An extrapolated state has no cells, and counts like any other.
    known = [(getattr(one, f"{kind}_std_us") ** 2, one.cells - 1 if one.cells else 1) for one in rows]
    known = [(variance, weight) for variance, weight in known if weight and math.isfinite(variance)]
    return math.sqrt(_average(*zip(*known, strict=True))) if known else math.nan


def _average(values: Sequence[float], weights: Sequence[float]) -> float:
    return float(np.average(values, weights=weights))


def _csv(rows: Sequence[dict]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({key: f"{value:.7g}" if isinstance(value, float) else value for key, value in row.items()})
    return out.getvalue().replace("nan", "")


def _heading(fit: Fit) -> tuple[str, str]:
    first, last = map(age_label, fit.device.measured_s)
    return f"{fit.device.name}: {fit.chosen}", (
        f"{fit.cleaned.readings.n_cells} cells, just written and {first} to {last} · dots measured, lines fitted, "
        "dashed extrapolated"
    )


def _few(values: Sequence[float], most: int) -> list[float]:
    """Some of them, evenly, the ends among them."""
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[place] for place in places]


def _plot_over_time(fit: Fit, rows: Sequence[Agreement], path: Path) -> None:
    """Mean shift and standard deviation against age, a line per target."""
    device = fit.device
    first, last = device.measured_s
    oldest = max(_LATER_S[-1], last)
    youngest = min(first, max(device.youngest_s, 1.0))
    figure, axes = new_figure(rows=2, height=6.6, heights=(1, 1))
    targets = _few(sorted({one.target_us for one in rows if one.time_s > 0 and one.cells}), _STATES_DRAWN)
    spans = (np.geomspace(first, last, 80), np.geomspace(last, oldest, 40), np.geomspace(youngest, first, 10))
    for target, colour in zip(targets, shades(len(targets)), strict=True):
        here = [one for one in rows if one.target_us == target and one.time_s > 0 and one.cells]
        ages = [one.time_s for one in here]
        axes[0].plot(ages, [one.measured_shift_us for one in here], "o", color=colour, markersize=4)
        axes[1].plot(ages, [one.measured_std_us for one in here], "o", color=colour, markersize=4)
        for span, style in zip(spans, ("-", "--", "--"), strict=True):
            moments = [_fitted(device, np.array([target]), float(np.clip(age, youngest, oldest))) for age in span]
            label = f"{target:.4g} µS" if style == "-" else None
            axes[0].plot(span, [shift for shift, _ in moments], style, color=colour, linewidth=1.6, label=label)
            axes[1].plot(span, [std for _, std in moments], style, color=colour, linewidth=1.6)
    for axis in axes:
        axis.set_xscale("log")
        for start, end in ((youngest, first), (last, oldest)):
            if start < end:
                axis.axvspan(start, end, color=GREY, alpha=0.15, linewidth=0, label=None)
    axes[0].text(math.sqrt(last * oldest), 1.01, "extrapolated", transform=axes[0].get_xaxis_transform(), ha="center",
                 va="bottom", fontsize=9, color=GREY)  # fmt: skip
    save_moments(figure, axes, "age (s)", _heading(fit), path)


def _plot_by_state(fit: Fit, rows: Sequence[Agreement], path: Path) -> None:
    """Mean shift and standard deviation against the target, a line per age; age 0 is the programming error."""
    device = fit.device
    measured = _few(sorted({one.time_s for one in rows if one.cells}), _AGES_DRAWN)
    later = _later_s(device)[-1:]
    figure, axes = new_figure(rows=2, height=6.6, heights=(1, 1))
    for age_s, colour in zip([*measured, *later], [*shades(len(measured)), COLOURS[1]], strict=False):
        here = [one for one in rows if one.time_s == age_s and one.cells]
        targets = [one.target_us for one in here]
        draw_law(axes, device, age_s, colour)
        axes[0].plot(targets, [one.measured_shift_us for one in here], "o", color=colour, markersize=4)
        axes[1].plot(targets, [one.measured_std_us for one in here], "o", color=colour, markersize=4)
    save_moments(figure, axes, "target conductance (µS)", _heading(fit), path)
