"""Comparison of a fitted law with its readings, and the numbers in its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from hwaware.evaluation.law import device_labels, law_curve, open_us
from hwaware.hardware.devices.device import Device
from hwaware.hardware.devices.fit.cleaning import MOST_STATES, bins, grouped_ages
from hwaware.hardware.devices.fit.estimate import Fit
from hwaware.report.device_fit import Course, FittedLaw
from hwaware.results.agreement import Agreement

#: Ages (s) shown in addition to the measured ones.
_LATER_S = (86400.0, 604800.0, 2592000.0, 31536000.0, 315360000.0)

_AGES_DRAWN, _STATES_DRAWN = 5, 5


def agreement(fit: Fit) -> list[Agreement]:
    """Moments by age and target, and those of the law at later ages; without stuck cells and outliers."""
    readings, device = fit.cleaned.readings, fit.device
    aside, n = fit.cleaned.aside, len(readings)
    every_bin = bins(np.concatenate([readings.target_us, aside.target_us]), MOST_STATES)
    every_s = grouped_ages(np.concatenate([readings.time_s, aside.time_s]))
    bin_of, time_s = every_bin[:n], every_s[:n]
    # One target per bin at all ages, even if readings are missing: figures draw a line for each.
    targets_us = np.bincount(bin_of, readings.target_us) / np.maximum(np.bincount(bin_of), 1)
    cut_off = np.isin(readings.conductance_us, [limit for limit in fit.cleaned.limits_us if limit is not None])
    found = []
    # Readings at age 0 that a table of states assumes are not a measurement to compare with.
    for age_s in np.unique(time_s[time_s > 0] if readings.new_is_assumed else time_s):
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


def fitted_law(fit: Fit, rows: Sequence[Agreement]) -> FittedLaw:
    """The numbers in the figures of a fit: the law over time for a few targets, and by state at a few ages.

    Args:
        fit: the result of a fit.
        rows: the output of :func:`agreement`.
    """
    device = fit.device
    first, last = measured_s(device)
    read = {one.target_us for one in rows if one.cells}
    later = {one.target_us for one in rows if one.time_s > 0 and one.cells}
    targets = _few(sorted(later or read), _STATES_DRAWN)
    measured = _few(sorted({one.time_s for one in rows if one.cells}), _AGES_DRAWN)
    youngest_s = max(device.youngest_s, 1.0)
    shown_s = min(first or youngest_s, youngest_s), max(_LATER_S[-1], last)
    return FittedLaw(
        of=device_labels(device),
        form=fit.chosen,
        read=fit.cleaned.readings.described,
        measured_s=(first, last),
        shown_s=shown_s,
        courses=[course for target in targets for course in _courses(device, target, shown_s)],
        curves=[law_curve(device, age_s) for age_s in (*measured, *_later_s(device)[-1:])],
    )


def measured_s(device: Device) -> tuple[float, float]:
    """First and last age (s) at which a fitted device was measured."""
    if device.measured_s is None:
        raise ValueError(f"{device.name} is not fitted: it does not state the measured ages")
    first, last = device.measured_s
    return first, last


def _courses(device: Device, target_us: float, shown_s: tuple[float, float]) -> Iterator[Course]:
    """The law over the measured ages, then over the later and earlier ages that are shown."""
    (first, last), (youngest, oldest) = measured_s(device), shown_s
    spans = [np.geomspace(last or youngest, oldest, 40)]
    if last:
        spans = [np.geomspace(first, last, 80), *spans, np.geomspace(youngest, first, 10)]
    for number, span in enumerate(spans):
        moments = [_fitted(device, np.array([target_us]), float(np.clip(age, youngest, oldest))) for age in span]
        shift, std = map(np.array, zip(*moments, strict=True))
        half = _open_us(device, target_us, np.clip(span, youngest, oldest))
        yield Course(target_us, span, shift, std, extrapolated=number > 0 or not last, open_us=half)


def _open_us(device: Device, target_us: float, ages_s: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Half the intervals at ages; computed at a few and interpolated between."""
    if device.bootstrap is None:
        return None
    few_s, target = np.geomspace(ages_s[0], ages_s[-1], 8).clip(ages_s[0], ages_s[-1]), torch.tensor([target_us])
    half = [np.concatenate(open_us(device, target.double(), float(age_s)) or ()) for age_s in few_s]
    mean, std = (np.interp(np.log(ages_s), np.log(few_s), one) for one in np.array(half).T)
    return mean, std


def _later_s(device: Device) -> tuple[float, ...]:
    _, last = measured_s(device)
    return tuple(age_s for age_s in _LATER_S if age_s > last) if device.has_time_law else ()


def _fitted(device: Device, targets_us: np.ndarray, age_s: float) -> tuple[float, float]:
    """Mean and standard deviation (µS) of conductance minus target, over cells with these targets."""
    states, counts = np.unique(targets_us, return_counts=True)
    mean, std = (moment.numpy() for moment in device.cell_moments(torch.from_numpy(states), age_s))
    shift = _average(mean - states, counts)
    return shift, math.sqrt(_average(std**2 + (mean - states - shift) ** 2, counts))


def _few(values: Sequence[float], most: int) -> list[float]:
    """At most ``most`` of the values, evenly chosen, with both ends."""
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[place] for place in places]


def _average(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights))
