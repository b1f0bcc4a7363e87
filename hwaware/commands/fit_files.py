"""Output of ``hwaware device fit``: the device file, tables and figures beside it, and remarks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from hwaware.errors import UserError
from hwaware.evaluation.device_fit import fitted_law, measured_s
from hwaware.hardware.devices import device_file
from hwaware.hardware.devices.fit import estimate
from hwaware.hardware.devices.fit.cleaning import OUTLIER_IQR, STUCK_WITHIN
from hwaware.hardware.devices.fit.estimate import BOOTSTRAP_SEED, FOLDS, TOLERATED_ERRORS, Fit
from hwaware.report.device_fit import agreement_table, plot_by_state, plot_over_time
from hwaware.report.labels import age_label, assumed_label
from hwaware.results.agreement import FEW_CELLS, Agreement, misfit
from hwaware.results.files import refuse_folder, replacing_together

#: Suffixes of the files of a fit, except the device file.
_RESULTS = ("parameters.csv", "states.csv", "time.png", "time.svg", "state.png", "state.svg")

#: Misfit (in standard errors) from which the remarks warn.
_POOR = 3.0


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
    """Writes the :func:`fit_files`, all at the end.

    Args:
        fit: the result of a fit.
        rows: its agreement, from :func:`hwaware.evaluation.device_fit.agreement`.
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
        law = fitted_law(fit, rows)
        plot_over_time(law, rows, time)
        plot_by_state(law, rows, state)
    return files


def fit_tables(fit: Fit, rows: Sequence[Agreement]) -> list[Table]:
    """Tables for the terminal: forms, constants, and measured against fitted values by age.

    The last one is from :func:`hwaware.evaluation.device_fit.agreement`.
    """
    forms = Table("form", title=f"forms by held-out log-likelihood per cell ({FOLDS} folds over cells)")
    for name in ("constants", "per cell", "behind the best ± error"):
        forms.add_column(name, justify="right")
    for one in fit.tried:
        name = f"{one.name} (chosen)" if one.name == fit.chosen else one.name
        known = (f"{one.held_out:.4f}", f"{one.behind:.4f} ± {one.behind_error:.4f}")
        forms.add_row(name, str(one.n_constants), *(("not fitted", one.reason) if one.reason else known))
    constants = Table("parameter", title=f"{fit.device.name}: {fit.chosen}")
    for name in ("value", "95 % interval", "unit"):
        constants.add_column(name, justify="left" if name == "unit" else "right")
    constants.caption = Text(fit.formula)  # its brackets are not markup
    for found in fit.estimates:
        ends = "not identifiable" if math.isnan(found.low) else f"{found.low:.4g} … {found.high:.4g}"
        constants.add_row(found.name, f"{found.value:.5g}", ends, found.unit)
    return [forms, constants, agreement_table(rows)]


def fit_remarks(fit: Fit, rows: Sequence[Agreement]) -> list[str]:
    """Remarks: goodness of fit, excluded readings, and what the readings do not determine."""
    means, stds = misfit(rows)
    cleaned = fit.cleaned
    quality = f"Misfit by state and age in standard errors (1 is perfect): means {means:.2f}, spreads {stds:.2f}."
    if math.isnan(means):
        quality = f"Misfit by state and age: unknown, since no state has {FEW_CELLS} cells at one age."
    elif max(means, stds) > _POOR:
        quality += " POOR: no law here describes these readings; see the figures before using it."
    remarks = [
        quality,
        f"Intervals (95 %): {estimate.BOOTSTRAP_DRAWS} fits to cells drawn with replacement, seed {BOOTSTRAP_SEED}.",
    ]
    if not cleaned.readings.n_states:
        remarks.append(
            f"Excluded: {cleaned.stuck_on[0]} + {cleaned.stuck_off[0]} cells stuck on + off (all their readings "
            f"within {100 * STUCK_WITHIN:g} % of the window from the end that their target is farther from), "
            f"{len(cleaned.aside)} outliers (beyond {OUTLIER_IQR:g} interquartile ranges from the quartiles of their "
            "state and age) for which a repeat or a later reading is not an outlier, or from a dead cell "
            f"({len(cleaned.dead)}: outliers when just written and mostly); {cleaned.readings.left_out} rows without a "
            f"time or conductance. Kept: {len(cleaned.departed)} outliers of cells that stay there."
        )
    if fit.device.assumed:
        remarks.append(assumed_label(fit.device.assumed))
    if fit.derived:
        numbers = ", ".join(f"{name} = {value:.4g}" for name, value in fit.derived.items())
        remarks.append(f"Set by the form, from what was fitted or measured: {numbers}.")
    return remarks + list(cleaned.readings.notes) + [one[:1].upper() + one[1:] for one in fit.notes]


def _header(fit: Fit, rows: Sequence[Agreement], measured_in: str) -> str:
    device, readings = fit.device, fit.cleaned.readings
    first, last = measured_s(device)
    what = "the means and standard deviations" if readings.n_states else f"{len(readings)} readings"
    ages = f"age {last:g} s ({age_label(last)})" if last else "no age above 0"
    if first < last:
        ages = f"ages {first:g} to {last:g} s ({age_label(first)} to {age_label(last)})"
    lines = [
        f"Fitted by `hwaware device fit` to {what} of {readings.described} in {measured_in}.",
        f"Measured: {ages}{'' if readings.new_is_assumed else ' and age 0'}, targets {device.g_min_us:g} to "
        f"{device.g_max_us:g} µS. All beyond is extrapolated.",
        f"The clamp is '{device.clamp}': "
        + (
            "readings pile up at the lowest or highest target, and hardly any is beyond."
            if device.clamp == "window"
            else "no pile of readings at the lowest or highest target says otherwise."
            if not readings.n_states
            else "assumed, since a table of states does not contain it."
        ),
        *fit_remarks(fit, rows),
        f"Formula (g in µS, t in s): {fit.formula}.",
        f"Form '{fit.chosen}', by held-out log-likelihood per cell ({FOLDS} folds over cells; fewest constants within "
        f"{TOLERATED_ERRORS:g} standard errors of the best):",
    ]
    for one in fit.tried:
        known = f"{one.held_out:.4f} ({one.n_constants} constants; behind {one.behind:.4f} ± {one.behind_error:.4f})"
        lines.append(f"  {one.name}: " + (f"not fitted: {one.reason}" if one.reason else known))
    return "".join(f"# {' '.join(line.split()) if line[0] != ' ' else line}\n" for line in lines)


def _csv(rows: Sequence[dict]) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({key: f"{value:.7g}" if isinstance(value, float) else value for key, value in row.items()})
    return out.getvalue().replace("nan", "")
