"""How results are named: ages, metrics, settings and lines, in words short enough for a heading."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from hwaware.results.criteria import Criteria
from hwaware.results.metric import less_is_better
from hwaware.results.repairs import VARIANTS
from hwaware.results.row import Row
from hwaware.results.setting import LINE, SETTING, DeviceLabels, Setting, by_setting, group_by, params_of
from hwaware.results.summary import sampling_margin

_UNITS = (
    (31536000, "year", "years"),
    (2592000, "month", "months"),
    (604800, "week", "weeks"),
    (86400, "day", "days"),
    (3600, "h", "h"),
    (60, "min", "min"),
    (1, "s", "s"),
)

#: Parameters that every heading spells out in its own way.
_IN_HEADING = (
    "layers", "digital", "g_min_us", "g_max_us", "scale", "clamp", "kappa", "range_fraction", "stuck_on", "stuck_off",
    "levels", "bits", "slice_bits", "fraction_bits", "converters", "temperature_c", "activation_energy_ev",
    "headroom_us", "parallel", "combine", "mean_target_ages_s", "cells_ratio", "digital_percent", "drawn_constants",
    "assumed", "rows", "columns", "wires", "die_spread",
)  # fmt: skip

_DEVICE = ("device", "device_params", "mapping")

#: What says what holds a network.
Held = TypeVar("Held", Row, DeviceLabels)

#: What headings call the shares by which dies differ.
_DIE_SHARES = {
    "drift_mean": "drift mean",
    "drift_std": "drift spread",
    "window": "window",
    "programming": "programming error",
}

#: Mappings in which a cell has a state for each level of a weight; in a pair with an idle cell it has half of them.
_ONE_CELL_HAS_ALL = ("offset", "offset_reference", "differential_symmetric")

_METRICS = {
    "f1": "F1",
    "f1_has_ans": "F1 of answerable questions",
    "f1_must_answer": "F1 when it must answer",
    "f1_no_ans": "F1 of unanswerable questions",
    "em": "exact match",
    "em_has_ans": "exact match of answerable questions",
    "em_no_ans": "exact match of unanswerable questions",
    "balanced": "balanced accuracy",
}


def age_label(age_s: float) -> str:
    """An age (s) as people say it.

    >>> [age_label(age) for age in (0, 3600, 86400, 315360000, 11520)]
    ['0 s', '1 h', '1 day', '10 years', '3.2 h']
    """
    if age_s == 0:
        return "0 s"
    # The largest unit in which the age is a handy whole number, else the largest that it fills.
    whole = (unit for unit in _UNITS if age_s % unit[0] == 0 and age_s // unit[0] < 100)
    filled = (unit for unit in _UNITS if age_s >= unit[0])
    size, one, many = next(whole, None) or next(filled, _UNITS[-1])
    number = f"{age_s / size:.3g}"
    return f"{number} {one if number == '1' else many}"


def age_labels(rows: Iterable[Row]) -> dict[float, str]:
    """Each age (s) in words, in order; starred where one of the devices was not measured at it."""
    rows = list(rows)
    devices = [Setting.of(same[0]) for same in group_by(rows, _DEVICE).values()]
    ages = sorted({row.age_s for row in rows})
    return {age_s: max((marked_age(age_s, device) for device in devices), key=len) for age_s in ages}


def marked_age(age_s: float, of: DeviceLabels, mark: str = " *") -> str:
    """An age (s) in words; marked where the device was not measured at it."""
    return age_label(age_s) + mark * of.extrapolates(age_s)


def method_label(method: str, params: str) -> str:
    """A repair's name: what is ours beside a published method, by a setting of it, is in the name.

    >>> method_label("vera_plus", '{"constant": true}'), method_label("vera_plus", '{"constant": false}')
    ('vera_plus_constant', 'vera_plus')
    """
    own = params_of(params)
    for label, (name, setting, value) in VARIANTS.items():
        if method == name and own.get(setting) == value:
            return label
    return method


def points_label(number: float) -> str:
    """``1 point``, ``0.5 points``."""
    return f"{number:g} point" + "s" * (number != 1)


def ordinal(number: float) -> str:
    """A number as a rank.

    >>> [ordinal(number) for number in (1, 2, 3, 5, 11, 22, 2.5)]
    ['1st', '2nd', '3rd', '5th', '11th', '22nd', '2.5th']
    """
    if number == int(number) and int(number) % 100 not in (11, 12, 13):
        return f"{number:g}" + {1: "st", 2: "nd", 3: "rd"}.get(int(number) % 10, "th")
    return f"{number:g}th"


def low_label(n_chips: Iterable[int], criteria: Criteria, metric: str = "") -> str:
    """What the chip shown beside means over so many chips is; empty where there is one chip only.

    Of an error, those with the highest values are the worst: the 95th percentile in place of the 5th.

    >>> low_label([20, 100], Criteria()), low_label([10], Criteria()), low_label([1], Criteria())
    ('5th-percentile chip', 'worst chip', '')
    """
    enough = {count >= criteria.chips_of_percentile for count in n_chips if count > 1}
    percent = 100 - criteria.percentile if less_is_better(metric) else criteria.percentile
    percentile = f"{ordinal(percent)}-percentile chip"
    if len(enough) == 2:
        return f"{percentile}, the worst of fewer than {criteria.chips_of_percentile}"
    return "".join(percentile if one else "worst chip" for one in enough)


def metric_label(metric: str) -> str:
    """A metric's name in words: ``top1`` is 'top-1 accuracy'."""
    top = re.fullmatch(r"top(\d+)", metric)
    return f"top-{top[1]} accuracy" if top else _METRICS.get(metric, metric)


def sampling_label(metric: str, percent: float, n_samples: int) -> str:
    """The sampling error of an accuracy on a test set, in a sentence; empty for metrics that are not a share."""
    hits = re.fullmatch(r"top\d+|em.*", metric) is not None
    if not hits and not metric.startswith("f1"):
        return ""
    margin = sampling_margin(percent, n_samples)
    at_most = "" if hits else "at most "
    return (
        f"{percent:.2f} % of {n_samples:,} samples has a sampling error of {at_most}± {margin:.2f} points (95 %); "
        "differences on the same samples have less."
    )


def varying_params(rows: Iterable[Held]) -> tuple[str, ...]:
    """Device parameters that differ between settings of one device, and that therefore must be named."""
    varying: dict[str, None] = {}
    for same_device in group_by(rows, ["device"]).values():
        params = [params_of(text) for text in dict.fromkeys(row.device_params for row in same_device)]
        for name in dict.fromkeys(name for one in params for name in one):
            if len({json.dumps(one.get(name)) for one in params}) > 1:
                varying[name] = None
    return tuple(varying)


def heading(rows: Sequence[Row], varying: Sequence[str] = (), swept: Sequence[str] = ()) -> tuple[str, str]:
    """Title and second line of a table or figure: what was measured, on what, and how often.

    Args:
        rows: rows of one setting.
        varying: parameters to name besides the usual ones (see ``varying_params``).
        swept: parameters that do vary, along an axis of the figure, and so belong into no heading.
    """
    first = rows[0]
    params = {name: value for name, value in params_of(first.device_params).items() if name not in swept}
    named, usual = _named(Setting.of(first), params, varying)
    starred = any(label.endswith("*") for label in age_labels(rows).values())
    beyond = ["* extrapolated: beyond the ages at which cells were measured"] * starred
    return f"{first.model} on {first.dataset} · {named}", " · ".join([*usual, *_sampling(rows), *beyond])


def device_heading(of: DeviceLabels) -> tuple[str, str]:
    """The same for a device alone, without measurements."""
    named, usual = _named(of, of.params)
    return named, " · ".join(usual)


def device_names(rows: Iterable[Held]) -> dict[tuple[str, str, str], str]:
    """What tells each device, mapping and encoding from the others in the rows; keyed by device, params and mapping.

    Of device and mapping what all have in common is left out. Where words are the same (two placements of as many
    layers), they are numbered.
    """
    rows, found = list(rows), dict[tuple[str, str, str], str]()
    varying = varying_params(rows)
    differ = {name: _differ(rows, name) for name in ("device", "mapping")}
    for key, same in group_by(rows, _DEVICE).items():
        of = device_of(same[0])
        kept = replace(of, **{name: "" for name, differs in differ.items() if not differs})
        named = _named(kept, of.params, varying)[0] or _named(of, of.params)[0]
        before = sum(one == named or one.startswith(f"{named} (") for one in found.values())
        found[key] = f"{named} ({before + 1})" if before else named
    return found


#: What was assumed where it was not measured, in words.
_ASSUMED = {
    "kappa": "κ of the I-V curve",
    **dict.fromkeys(("g_min_us", "g_max_us"), "the window: lowest and highest target, not what cells can do"),
    **dict.fromkeys(("read_coefficient_us", "read_std_of_x", "read_scale", "read_power", "read_noise"), "read noise"),
    "read_time_s": "the time that a read takes",
    **dict.fromkeys(("drift_mean_offset_of_x", "drift_std_offset_of_x"), "no drift"),
    **dict.fromkeys(("drift_mean_slope_of_x", "drift_std_slope_of_x"), "no drift after the last age"),
    "programming_error": "the spread at each state's first age",
    "target_us": "each state's mean at its first age",
    **dict.fromkeys(("stuck_on", "stuck_off"), "no stuck cells"),
    "temperature_c": "the measurement's",
}


def assumed_label(names: Iterable[str]) -> str:
    """Which constants were not measured, in a sentence.

    >>> assumed_label(["kappa", "read_time_s", "start_s"])
    'Not measured but assumed: kappa (κ of the I-V curve), read_time_s (the time that a read takes), start_s.'
    """
    of: dict[str, list[str]] = {}
    for name in names:
        of.setdefault(_ASSUMED.get(name, ""), []).append(name)
    parts = [", ".join(some) + f" ({words})" * bool(words) for words, some in of.items()]
    return f"Not measured but assumed: {', '.join(parts)}."


def device_of(item: Held) -> DeviceLabels:
    """What holds the network of a row."""
    return DeviceLabels(item.device, item.device_params, item.mapping)


def common_conditions(rows: Sequence[Row]) -> str:
    """The second line of a heading of several devices: what they have in common."""
    every = [_named(Setting.of(same[0]), params_of(same[0].device_params))[1] for same in by_setting(rows).values()]
    shared = [text for text in every[0] if all(text in one for one in every)]
    return " · ".join([*shared, *_sampling(rows)])


def _named(of: DeviceLabels, params: Mapping[str, Any], varying: Sequence[str] = ()) -> tuple[str, list[str]]:
    """A device with its mapping and the varying parameters in words, and what else is usually said of it."""
    usual = _usual(params)
    told = [text for text, names in usual if not names.isdisjoint(varying)]
    told += [f"{name} = {_short(params[name])}" for name in varying if name in params and name not in _IN_HEADING]
    named = ", ".join(filter(None, (of.device, of.mapping, *told)))
    return named, [text for text, names in usual if names.isdisjoint(varying)]


def constants(row: Row) -> str:
    """The device's remaining parameters, for a footnote."""
    params = params_of(row.device_params).items()
    return ", ".join(f"{name} = {_short(value)}" for name, value in params if name not in _IN_HEADING)


def of_a_cell(rows: Sequence[Row]) -> str:
    """Levels of a cell where the format has levels of a weight; empty where it has none, or of own mappings."""
    texts = {device: _of_a_cell(same[0]) for device, same in group_by(rows, ("mapping", "device_params")).items()}
    said = dict.fromkeys((mapping, text) for (mapping, _), text in texts.items())
    return "; ".join(f"{mapping}: {text}" if len(said) > 1 else text for mapping, text in said if text)


def _of_a_cell(row: Row) -> str:
    levels = params_of(row.device_params).get("levels")
    if not levels or row.mapping not in (*_ONE_CELL_HAS_ALL, "differential"):
        return ""
    states = (levels + 1) // 2 if row.mapping == "differential" else levels
    bits = f" ({states.bit_length() - 1} bits)" if states & (states - 1) == 0 else ""
    return f"{levels} levels of a weight are {states} of a cell{bits}"


def slug(rows: Sequence[Row], among: Sequence[Row]) -> str:
    """A name for files and logged keys that tells one setting from all others in ``among``."""
    parts = [device_slug(rows, among), rows[0].metric, *[f"n={rows[0].n_samples}"] * _differ(among, "n_samples")]
    return re.sub(r"[^\w.=+-]+", "-", "_".join(parts))


def device_slug(rows: Sequence[Row], among: Sequence[Row]) -> str:
    """:func:`slug` without metric and samples."""
    held = list(group_by(among, ("model", "dataset", "device", "mapping", "device_params")).values())
    differing = [name for name in ("model", "dataset") if _differ(among, name)]
    varying = varying_params(among)
    names = [_device_name(same[0], differing, varying) for same in held]
    mine = next(place for place, same in enumerate(held) if _device(same[0]) == _device(rows[0]))
    # What differs may look alike in short: two placements of as many layers, the last digits of a number.
    before = names[:mine].count(names[mine])
    return f"{names[mine]}_{before + 1}" if before else names[mine]


def _device(row: Row) -> tuple[str, ...]:
    return (row.model, row.dataset, row.device, row.mapping, row.device_params)


def _device_name(row: Row, differing: Sequence[str], varying: Sequence[str]) -> str:
    params, counted = params_of(row.device_params), ("digital", "layers")
    parts = [*(str(getattr(row, name)) for name in differing), row.device, row.mapping]
    own = [name for name in varying if name in params]
    parts += [f"{name}={len(params[name]) if name in counted else _short(params[name])}" for name in own]
    return re.sub(r"[^\w.=+-]+", "-", "_".join(parts))


def device_slugs(rows: Sequence[Row]) -> list[str]:
    """A name for each device in the rows, in their order."""
    return list(dict.fromkeys(device_slug(same, rows) for same in by_setting(rows).values()))


def line_labels(rows: Iterable[Row]) -> dict[tuple[str, ...], str]:
    """A short name for each line, keyed by its LINE fields: the network, and what else it takes to tell it apart."""
    lines = list(group_by(rows, LINE))
    labels: dict[tuple[str, ...], str] = {}
    for recipe, network, method, params in lines:
        name = method_label(method, params)
        label = network if method == "none" else f"{network} + {name}"
        same = [line for line in lines if line[1] == network and method_label(*line[2:]) == name]
        varied = [params_of(text) for text in dict.fromkeys(line[3] for line in same)]
        own = params_of(params).items()
        settings = ", ".join(f"{k}={_short(v)}" for k, v in own if any(other.get(k) != v for other in varied))
        where = f"({recipe})" if len({line[0] for line in same}) > 1 else ""
        labels[recipe, network, method, params] = " ".join(filter(None, (label, settings, where)))
    return labels


def _usual(params: Mapping[str, Any]) -> list[tuple[str, set[str]]]:
    """What is usually said of hardware, each with the parameters that it is of."""
    window = [params.get(f"g_{end}_us") for end in ("min", "max")]
    parts = [] if None in window else [(f"{_short(window[0])}–{_short(window[1])} µS", {"g_min_us", "g_max_us"})]
    if params.get("bits"):
        parts.append((f"{params['bits']} bits in {params['slice_bits']}-bit slices", {"bits", "slice_bits"}))
    if params.get("scale") == "fixed":
        parts.append((f"fixed scale, {params['fraction_bits']} fractional bits", {"scale", "fraction_bits"}))
    elif "scale" in params:
        parts.append((f"scale per {params['scale']}", {"scale"}))
    if "clamp" in params:
        parts.append((f"clamp {params['clamp']}", {"clamp"}))
    if "kappa" in params:
        parts.append(("linear cells" if params["kappa"] is None else f"κ = {_short(params['kappa'])}", {"kappa"}))
    if "range_fraction" in params:
        parts.append((f"r = {_short(params['range_fraction'])}", {"range_fraction"}))
    if params.get("temperature_c") is not None:
        names = {"temperature_c", "activation_energy_ev"}
        parts.append((f"{_short(params['temperature_c'])} °C, {_short(params['activation_energy_ev'])} eV", names))
    if params.get("levels"):
        parts.append((f"{params['levels']} levels", {"levels"}))
    if "rows" in params or "columns" in params:
        parts.append((f"arrays of {params.get('rows', 512)} × {params.get('columns', 512)}", {"rows", "columns"}))
    if params.get("converters"):
        parts.append((_short(params["converters"]), {"converters"}))
    if wires := params.get("wires"):
        driver = f", drivers of {_short(wires['driver_ohm'])} Ω" if wires["driver_ohm"] else ""
        parts.append((f"wires of {_short(wires['segment_ohm'])} Ω a cell{driver}", {"wires"}))
    parts += _cells(params)
    for name, where in (("layers", "on other hardware"), ("digital", "digital")):
        if params.get(name):
            count = len(params[name])
            parts.append((f"{count} layer{'s' * (count > 1)} {where}", {name}))
    if params.get("drawn_constants"):
        parts.append(("constants drawn for each chip", {"drawn_constants"}))
    stuck = [params.get("stuck_on", 0), params.get("stuck_off", 0)]
    parts += [(f"stuck on/off {stuck[0]:.3g}/{stuck[1]:.3g}", {"stuck_on", "stuck_off"})] * any(stuck)
    return parts + ([(die_spread_label(params["die_spread"]), {"die_spread"})] if params.get("die_spread") else [])


def die_spread_label(spread: Mapping[str, Any]) -> str:
    """By how much dies differ, as headings have it.

    >>> die_spread_label({"drift_mean": 0.1, "drift_std": 0.1, "temperature_k": 5.0, "chips_per_die": 4})
    'die to die ± 10 % drift mean, 10 % drift spread, 5 K; 4 chips a die'
    """
    shares = [f"{100 * spread[name]:.3g} % {word}" for name, word in _DIE_SHARES.items() if name in spread]
    shares += [f"{spread[name]:g} K" for name in ("temperature_k",) if name in spread]
    text = f"die to die ± {', '.join(shares) or '0'}"
    return text + (f"; {spread['chips_per_die']} chips a die" if "chips_per_die" in spread else "")


def _cells(params: Mapping[str, Any]) -> list[tuple[str, set[str]]]:
    """Room, number and targets of the cells, where they are not as usual."""
    words: dict[str, Callable[[Any], str]] = {
        "headroom_us": lambda value: "headroom {:g}/{:g} µS".format(*value),
        "parallel": lambda value: f"{value} cells in parallel",
        "combine": lambda value: f"{value} of parallel cells",
        "mean_target_ages_s": lambda value: f"mean targets at {', '.join(map(age_label, value))}",
        "cells_ratio": lambda value: f"{value:.3g} × the cells",
        "digital_percent": lambda value: f"{value:.2g} % of the weights digital",
    }
    return [(text(params[name]), {name}) for name, text in words.items() if params.get(name)]


def _sampling(rows: Sequence[Row]) -> list[str]:
    lines = group_by(rows, (*SETTING, *LINE, "age_s")).values()
    chips, seeds = (_count(lines, field) for field in ("chip_seed", "seed"))
    return [
        metric_label(rows[0].metric) + " (%)",
        chips if seeds == "1 training seed" else f"{chips} × {seeds}",
        f"{rows[0].n_samples:,} samples",
    ]


def _count(lines: Iterable[Sequence[Row]], field: str) -> str:
    counts = {len({getattr(row, field) for row in line}) for line in lines}
    low, high = min(counts), max(counts)
    number = f"{low}" if low == high else f"{low}–{high}"
    return f"{number} {'chip' if field == 'chip_seed' else 'training seed'}{'s' * (high > 1)}"


def _differ(rows: Iterable[Held], name: str) -> bool:
    return len({getattr(row, name) for row in rows}) > 1


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_short(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
