"""Figures of sweeps: accuracy against a parameter of the hardware; chance (percent) where it is given and near."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from hwaware.errors import UserError
from hwaware.report.drawing import accuracy_figure, draw_mean, legend, over_chips, save
from hwaware.report.labels import age_label, age_labels, heading, line_labels
from hwaware.report.style import COLOURS, MARKERS, styled
from hwaware.results.row import Row
from hwaware.results.setting import LINE, group_by, params_of
from hwaware.results.summary import Summary, summarise


@styled
def plot_range_sweep(rows: Iterable[Row], path: str | Path, age_s: float, chance: float | None = None) -> Path:
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
        params = params_of(one.device_params)
        curve = curves.setdefault((params["kappa"] or 0.0, one.network != "base"), [])
        curve.append((params["range_fraction"], one))

    kappas = sorted({kappa for kappa, _ in curves})  # linear cells first
    figure, axes = accuracy_figure([[one for _, one in points] for points in curves.values()], chance)
    for kappa, uncorrected in sorted(curves):
        r, summaries = zip(*sorted(curves[kappa, uncorrected], key=lambda point: point[0]), strict=True)
        label = f"κ = {kappa:g}, {'un' * uncorrected}corrected" if kappa else "linear cells"
        index = kappas.index(kappa)
        for axis in axes:
            draw_mean(axis, r, summaries, COLOURS[index % 7], label, "--" if uncorrected else "-", MARKERS[index % 5])
    axes[-1].set(xlabel="range fraction r (share of the conductance window in use)", xlim=(0, 1.02))
    legend(figure, axes[0], more=over_chips([one for _, one in points] for points in curves.values()))
    title, conditions = heading(rows, swept=swept)
    return save(figure, axes[0], (f"{title}, age {age_labels(rows)[age_s]}", conditions), path)


@styled
def plot_input_range_sweep(rows: Iterable[Row], path: str | Path, chance: float | None = None) -> Path:
    """Accuracy against the share r of the input voltage range, one line for each age, ± std band.

    ``rows`` differ in the converters' ``input_range``, in chips and in ages, and in nothing else.
    """
    rows = list(rows)
    if not rows or any("converters" not in params_of(row.device_params) for row in rows):
        raise UserError("an input range sweep needs rows of networks with converters.")
    same = {(*astuple(replace(row, age_s=0.0, **_UNSWEPT)), row.network, _swept_input(row)[1]) for row in rows}
    if len(same) > 1:
        raise UserError("rows of an input range sweep may differ in input_range and age only; select some first.")
    ages: dict[float, list[tuple[float, Summary]]] = {}
    for one in summarise(rows):
        ages.setdefault(one.age_s, []).append((_swept_input(one)[0], one))

    figure, axes = accuracy_figure([[one for _, one in points] for points in ages.values()], chance)
    for index, (age_s, label) in enumerate(age_labels(rows).items()):
        r, summaries = zip(*sorted(ages[age_s], key=lambda point: point[0]), strict=True)
        for axis in axes:
            draw_mean(axis, r, summaries, COLOURS[index % 7], label, "-", MARKERS[index % 5])
    axes[-1].set(xlabel="input range r (share of the voltage range in use)", xlim=(0, 1.02))
    legend(figure, axes[0], more=over_chips([one for _, one in points] for points in ages.values()))
    title, conditions = heading(rows, swept=("converters",))
    fixed = [one for one in params_of(rows[0].device_params)["converters"].items() if one[0] != "input_range"]
    conditions = f"{conditions} · {', '.join(f'{name} = {value:g}' for name, value in fixed)}"
    return save(figure, axes[0], (title, conditions), path)


@styled
def plot_adc_sweep(rows: Iterable[Row], path: str | Path, chance: float | None = None) -> Path:
    """Accuracy against the ADCs' bits, one line for each number of an array's rows and network, ± std band.

    ``rows`` are of one metric and one age, and differ in ``adc_bits``, the array's ``rows``, network and recipe only.
    """
    rows = list(rows)
    if not rows or any("adc_bits" not in params_of(row.device_params).get("converters", {}) for row in rows):
        raise UserError("a sweep of ADCs needs rows of networks with converters that have adc_bits.")
    own: dict[str, Any] = {"recipe": "", "seed": 0, "base_digital": 0.0}
    if len({(*astuple(replace(row, **_UNSWEPT | own)), _swept_adc(row)[2]) for row in rows}) > 1:
        raise UserError("rows of a sweep of ADCs may differ in adc_bits, rows and network only; select some first.")
    lines: dict[tuple[int, str], list[tuple[int, Summary]]] = {}
    for one in summarise(rows):
        array_rows, adc_bits, _ = _swept_adc(one)
        lines.setdefault((array_rows, one.network), []).append((adc_bits, one))

    networks = list(dict.fromkeys(network for _, network in lines))
    sizes = sorted({size for size, _ in lines})
    figure, axes = accuracy_figure([[one for _, one in points] for points in lines.values()], chance)
    for size, network in sorted(lines):
        bits, summaries = zip(*sorted(lines[size, network], key=lambda point: point[0]), strict=True)
        label = f"{size} rows" + f", {network}" * (len(networks) > 1)
        index, style = sizes.index(size), ("-", "--", ":")[networks.index(network) % 3]
        for axis in axes:
            draw_mean(axis, bits, summaries, COLOURS[index % 7], label, style, MARKERS[index % 5])
    axes[-1].set(xlabel="bits of the ADC", xticks=sorted({bits for points in lines.values() for bits, _ in points}))
    legend(figure, axes[0], more=over_chips([one for _, one in points] for points in lines.values()))
    title, conditions = heading(rows, swept=("converters", "rows"))
    return save(figure, axes[0], (f"{title}, age {age_labels(rows)[rows[0].age_s]}", conditions), path)


def _swept_adc(row: Row | Summary) -> tuple[int, int, str]:
    """Rows of an array, bits of its ADCs, and the rest of the device parameters."""
    params = dict(params_of(row.device_params))
    converters, size = dict(params.pop("converters")), params.pop("rows", 512)
    bits = converters.pop("adc_bits")
    return size, bits, json.dumps({**params, "converters": converters}, sort_keys=True)


@styled
def plot_parameter_sweep(rows: Iterable[Row], parameter: str, path: str | Path, chance: float | None = None) -> Path:
    """Accuracy against a parameter of the device, one line for each network and repair, ± std band.

    ``rows`` are of one metric and one age, and differ in this one parameter of the device only.

    Raises:
        UserError: they are not, or the parameter is none of theirs, or no number.
    """
    rows = list(rows)
    values = [params_of(row.device_params).get(parameter) for row in rows]
    if not rows or not all(isinstance(value, int | float) for value in values):
        raise UserError(f"'{parameter}' is not a number in the device parameters of every row: nothing to sweep.")
    own: dict[str, Any] = {"recipe": "", "method": "", "method_params": "", "seed": 0, "base_digital": 0.0}
    if len({(*astuple(replace(row, **_UNSWEPT | own)), _without(row.device_params, [parameter])) for row in rows}) > 1:
        raise UserError(f"rows of a sweep may differ in {parameter}, network and repair only; select some first.")
    lines, labels = group_by(summarise(rows), LINE), line_labels(rows)
    figure, axes = accuracy_figure(list(lines.values()), chance)
    for index, (line, summaries) in enumerate(lines.items()):
        points = sorted((params_of(one.device_params)[parameter], index, one) for index, one in enumerate(summaries))
        for axis in axes:
            draw_mean(axis, [value for value, _, _ in points], [one for *_, one in points], COLOURS[index % 7],
                      labels[line], "-", MARKERS[index % 5])  # fmt: skip
    axes[-1].set_xlabel(parameter.replace("_", " "))
    legend(figure, axes[0], more=over_chips(lines.values()))
    title, conditions = heading(rows, swept=(parameter,))
    return save(figure, axes[0], (f"{title}, age {age_labels(rows)[rows[0].age_s]}", conditions), path)


def _swept_input(row: Row | Summary) -> tuple[float, str]:
    """The input range of a row, and the rest of its device parameters."""
    converters = dict(params_of(row.device_params)["converters"])
    input_range = converters.pop("input_range")
    return input_range, json.dumps({**params_of(row.device_params), "converters": converters}, sort_keys=True)


#: Fields in which the rows of one sweep differ.
_UNSWEPT: dict[str, Any] = {
    "network": "", "device_params": "", "chip_seed": 0, "value": 0.0, "drift_free": 0.0, "commit": "",
}  # fmt: skip


def _without(params: str, names: Sequence[str]) -> str:
    return json.dumps({name: value for name, value in params_of(params).items() if name not in names}, sort_keys=True)
