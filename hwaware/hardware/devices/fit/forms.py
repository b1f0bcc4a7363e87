"""The forms that a fit chooses from: the package's laws, with the constants that readings can determine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwaware.hardware.devices.fit.cleaning import Cleaned
from hwaware.hardware.devices.fit.readings import Readings

_READ_TIME_S = 1e-6


@dataclass(frozen=True)
class Constant:
    """One constant that is fitted.

    Attributes:
        name: field of the law, with an index for lists: ``exponent_mean[0]``.
        start: initial value of the search.
        size: scale of the search steps.
        low, high: bounds.
        log: whether its logarithm is searched.
    """

    name: str
    start: float
    size: float
    low: float = -math.inf
    high: float = math.inf
    log: bool = False


@dataclass(frozen=True)
class Form:
    """One form of a law, and how its constants are found.

    Attributes:
        name: name in reports; that of the law, if it has only one form.
        law: name of the law in device files.
        constants: constants of programming and drift.
        read: constants of read noise; empty if the law has none.
        starts: further starting points for some constants, by name; the best result is used.
        build: function from all constants by name to the remaining fields of the law.
        needs_targets, needs_ages: fewest distinct targets, and ages above 0, for identifiable constants.
        youngest_s: the youngest age (s) above 0 that the law covers.
        formula: the law in terms of its constants.
        assumed: constants of the law that readings do not determine, besides those of read noise.
    """

    name: str
    law: str
    constants: tuple[Constant, ...]
    read: tuple[Constant, ...] = ()
    starts: tuple[dict[str, float], ...] = ({},)
    build: Callable[[dict[str, Any]], dict[str, Any]] = dict
    needs_targets: int = 2
    needs_ages: int = 2
    youngest_s: float = 0.0
    formula: str = ""
    assumed: tuple[str, ...] = ()

    def fields(self, values: dict[str, float]) -> dict[str, Any]:
        """The law's fields, lists as tuples."""
        lists: dict[str, Any] = {}
        for name, value in values.items():
            field, bracket, place = name.partition("[")
            if not bracket:
                lists[field] = value
                continue
            assert int(place[:-1]) == len(lists.setdefault(field, ()))
            lists[field] += (value,)
        return self.build(lists)


#: Units of constants whose name does not end in the unit.
_UNITS = {
    "drift_mean_slope_us": "µS per ln s",
    "drift_std_slope_us": "µS per ln s",
    "drift_mean_slope_of_x": "µS per ln s",
    "drift_std_slope_of_x": "µS per ln s",
    **dict.fromkeys(("programming_std_of_x", "drift_mean_offset_of_x", "drift_std_offset_of_x", "read_std_of_x"), "µS"),
    "programming_std_us_of_x": "µS",
}


def unit_of(name: str) -> str:
    """The unit of a constant by its name.

    >>> [unit_of(name) for name in ("drift_std_slope_us", "std_0[3]", "start_s", "exponent")]
    ['µS per ln s', 'µS', 's', '1']
    """
    field = name.partition("[")[0]
    if field in _UNITS:
        return _UNITS[field]
    if field.endswith("_us") or field.startswith("std_"):
        return "µS"
    return "s" if field.endswith("_s") else "1"


def forms(cleaned: Cleaned) -> tuple[Form, ...]:
    """All forms, with starting points from the spread of the readings."""
    readings = cleaned.readings
    high_us = readings.window_us[1]
    new = readings.time_s == 0
    shift = readings.conductance_us - readings.target_us
    old = ~new
    spread_0 = max(_spread(shift[new]), 1e-4 * high_us)
    if len(readings.ages_s) < 2:
        return tuple(_without_slopes(degree, readings, spread_0) for degree in (0, 1, 2))
    spread = max(_spread(shift[old]), spread_0 / 2)
    log_t = np.log(readings.time_s[old])
    trend = float(np.polyfit(log_t, shift[old], 1)[0])
    long = max(float(log_t.max()), 1.0)
    youngest_s = float(min(readings.ages_s.min(), 1.0))
    programming = (
        Constant("programming_std_offset_us", spread_0 / 2, spread_0, 0.0),
        Constant("programming_std_slope", spread_0 / high_us, spread_0 / high_us, 0.0),
    )
    found = [
        Form(
            "log_time",
            "log_time",
            (
                *programming,
                Constant("drift_mean_slope_us", trend, spread / long),
                Constant("drift_std_offset_us", spread / 2, spread, 0.0),
                Constant("drift_std_slope_us", spread / 2 / long, spread / long, 0.0),
            ),
            (Constant("read_coefficient_us", spread / 10, spread / 10, 0.0),),
            build=lambda fields: {**fields, "read_time_s": _READ_TIME_S},
            youngest_s=1.0,
            formula="σ_prog = programming_std_slope·g + programming_std_offset_us; "
            "mean drift = drift_mean_slope_us·ln t; σ_drift = drift_std_slope_us·ln t + drift_std_offset_us; "
            "σ_read = read_coefficient_us·log10(g)·√ln((t + read_time_s)/(2·read_time_s))",
        ),
        *(_state_log_time(degree, high_us, spread_0, spread, trend, long, youngest_s) for degree in (1, 2)),
        _power_law_decay(readings, high_us, spread_0),
        Form(
            "mirrored_power_law",
            "mirrored_power_law",
            (Constant("exponent", max(spread / high_us / long, 1e-5), spread / high_us / long, 0.0, 1.0), *programming),
            youngest_s=1.0,
            formula="g(t) = g_prog·t^(±exponent), as likely up as down; "
            "σ_prog = programming_std_slope·g + programming_std_offset_us",
        ),
        _measured_relaxation(readings, high_us, spread),
        Form(
            "lognormal",
            "lognormal",
            (Constant("log_std", min(spread / high_us, 0.5), spread / high_us, 0.0, 3.0),),
            formula="g' = g·e^θ, θ ~ N(0, log_std²), from the first moment on",
        ),
    ]
    return tuple(found)


def _polynomial(field: str, degree: int, start: float, size: float) -> tuple[Constant, ...]:
    return tuple(Constant(f"{field}[{power}]", 0.0 if power else start, size) for power in range(degree + 1))


def _state_log_time(
    degree: int, high_us: float, spread_0: float, spread: float, trend: float, long: float, youngest_s: float
) -> Form:
    return Form(
        f"state_log_time, degree {degree}",
        "state_log_time",
        (
            *_polynomial("programming_std_of_x", degree, spread_0, spread_0),
            *_polynomial("drift_mean_offset_of_x", degree, 0.0, spread),
            *_polynomial("drift_mean_slope_of_x", degree, trend, spread / long),
            *_polynomial("drift_std_offset_of_x", degree, spread / 2, spread),
            *_polynomial("drift_std_slope_of_x", degree, spread / 2 / long, spread / long),
        ),
        _polynomial("read_std_of_x", 1, spread / 10, spread / 10),
        build=lambda fields: {**fields, "fitted_g_max_us": high_us, "min_age_s": youngest_s},
        needs_targets=degree + 1,
        formula="p(x) = Σ p[i]·x^i, x = g/fitted_g_max_us; σ_prog = programming_std_of_x; "
        "mean drift = drift_mean_offset_of_x + drift_mean_slope_of_x·ln t; "
        "σ_drift = drift_std_offset_of_x + drift_std_slope_of_x·ln t; σ_read = read_std_of_x",
    )


def _without_slopes(degree: int, readings: Readings, spread_0: float) -> Form:
    """The form without slopes, for at most one age above 0: no further drift."""
    assumed = ["drift_mean_slope_of_x", "drift_std_slope_of_x"]
    offsets = ("drift_mean_offset_of_x", "drift_std_offset_of_x")
    fitted = [_polynomial("programming_std_of_x", degree, spread_0, spread_0)]
    formula = "p(x) = Σ p[i]·x^i, x = g/fitted_g_max_us; σ_prog = programming_std_of_x"
    if len(readings.ages_s):
        fitted += [_polynomial(offsets[0], degree, 0.0, spread_0), _polynomial(offsets[1], degree, spread_0, spread_0)]
        formula += "; mean drift = drift_mean_offset_of_x; σ_drift = drift_std_offset_of_x"
    else:
        assumed = [*offsets, *assumed]
    zeros = dict.fromkeys(assumed, (0.0,))
    youngest_s = float(min(readings.ages_s.min(initial=1.0), 1.0))
    high_us = readings.window_us[1]
    return Form(
        f"state_log_time, degree {degree}, without slopes",
        "state_log_time",
        tuple(one for constants in fitted for one in constants),
        _polynomial("read_std_of_x", 0, 0.0, spread_0),
        build=lambda fields: {**fields, **zeros, "fitted_g_max_us": high_us, "min_age_s": youngest_s},
        needs_targets=degree + 1,
        needs_ages=0,
        formula=formula,
        assumed=tuple(assumed),
    )


def _power_law_decay(readings: Readings, high_us: float, spread_0: float) -> Form:
    lowest = math.log(readings.target_us[readings.target_us > 0].min() / high_us)
    last = (readings.time_s == readings.ages_s[-1]) & (readings.target_us > high_us / 2)
    fallen = float(np.median(np.log(readings.target_us[last] / readings.conductance_us[last]))) if last.any() else 0.0
    exponent = max(fallen / math.log1p(readings.ages_s[-1] / 20), 1e-3)

    def build(fields: dict[str, Any]) -> dict[str, Any]:
        # Below the lowest state that was read, the exponent is constant.
        for field in ("exponent_mean", "exponent_std"):
            slope, constant, low = fields[field]
            fields[field] = (slope, constant, low, max(low, constant, constant + slope * lowest))
        # The relative read noise is also that of the lowest state.
        if "read_scale" in fields:
            fields["read_max"] = fields["read_scale"] / math.exp(fields["read_power"] * lowest)
        return {**fields, "clamp": "zero"}

    return Form(
        "power_law_decay",
        "power_law_decay",
        (
            *_polynomial("programming_std_us_of_x", 2, spread_0, spread_0),
            Constant("exponent_mean[0]", -exponent / 10, 0.01),
            Constant("exponent_mean[1]", exponent, 0.02),
            Constant("exponent_mean[2]", exponent / 2, 0.02, 0.0, 1.0),
            Constant("exponent_std[0]", -exponent / 10, 0.01),
            Constant("exponent_std[1]", exponent / 5, 0.01),
            Constant("exponent_std[2]", exponent / 10, 0.01, 1e-5, 1.0),
            Constant("start_s", 10.0, 1.0, 1e-3, 1e6, log=True),
        ),
        (Constant("read_scale", 0.01, 0.01, 0.0, 0.5), Constant("read_power", 0.5, 0.5, 0.0, 2.0)),
        # The lowest exponent begins at a kink, which a search can't find from the wrong side.
        ({}, *(_kinked(exponent, mean, std) for mean in (0.15, 0.4) for std in (0.15, 0.4))),
        build,
        needs_targets=4,
        needs_ages=3,
        formula="g(t) = g_prog·((t + start_s)/start_s)^(-ν), ν = |N(μ, σ)|, x = g/g_max_us; "
        "μ and σ are exponent_mean and exponent_std: [0]·ln x + [1], between [2] and [3]; "
        "σ_prog = Σ programming_std_us_of_x[i]·x^i; "
        "σ_read = g·min(read_scale/x^read_power, read_max)·√ln((t + start_s + read_time_s)/(2·read_time_s))",
    )


def _kinked(exponent: float, mean_at: float, std_at: float) -> dict[str, float]:
    """Exponents that are lowest above the given states x, and rise below them."""
    found: dict[str, float] = {}
    for field, low, at in (("exponent_mean", exponent, mean_at), ("exponent_std", exponent / 5, std_at)):
        slope = -exponent / 4
        found |= {f"{field}[0]": slope, f"{field}[1]": low - slope * math.log(at), f"{field}[2]": low}
    return found


def _measured_relaxation(readings: Readings, high_us: float, spread: float) -> Form:
    ages, degree = readings.ages_s, 4
    times_s = tuple(float(age) for age in (ages if len(ages) <= 3 else ages[[0, len(ages) // 2, -1]]))
    constants = (
        constant for place in range(len(times_s)) for constant in _polynomial(f"std_{place}", degree, spread, spread)
    )

    def build(fields: dict[str, Any]) -> dict[str, Any]:
        std = tuple(fields.pop(f"std_{place}") for place in range(len(times_s)))
        return {**fields, "times_s": times_s, "std_us": std, "fitted_g_max_us": high_us}

    return Form(
        "measured_relaxation",
        "measured_relaxation",
        tuple(constants),
        build=build,
        needs_targets=degree + 1,
        youngest_s=times_s[0],
        formula="σ = Σ std_us[k][i]·(g/fitted_g_max_us)^i at times_s[k], linear in ln t between; the mean stays",
    )


def _spread(values: np.ndarray) -> float:
    """Standard deviation of a Gaussian, from the interquartile range."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float(high - low) / 1.349
