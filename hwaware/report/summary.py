"""Statistics over chips: pure functions of measurement rows."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from hwaware.errors import UserError, nearest
from hwaware.evaluation import Row
from hwaware.report.rows import IDENTITY

#: What must be equal for two accuracies to stand in one table or figure …
SETTING = ("model", "dataset", "device", "device_params", "mapping", "metric", "n_samples")
#: … and what makes two lines of it.
LINE = ("recipe", "network", "method", "method_params")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Summary:
    """One network on many chips at one age; accuracies in percent.

    Attributes:
        n_chips: chips measured (per training seed; several seeds are pooled).
        mean, std: over chips; the sample standard deviation, nan for a single chip.
        p5: the 5th-percentile chip, linearly interpolated.
        drift_free: the exact network placed on the chip.
        base_digital: the digital network that was started from.
        ratio_drift_free, ratio_base_digital: ``mean`` over either.
        normalised: A* = 1 - (err - err_base)/(err_chance - err_base), iso-accurate above 0.99
            (Rasch et al., "Hardware-aware training for large-scale and diverse deep learning inference workloads using
            in-memory computing-based accelerators", arXiv 2302.08469); nan where chance is not known.
    """

    recipe: str
    model: str
    network: str
    dataset: str
    device: str
    device_params: str
    mapping: str
    method: str
    method_params: str
    metric: str
    n_samples: int
    age_s: float
    n_chips: int
    mean: float
    std: float
    p5: float
    drift_free: float
    base_digital: float
    ratio_drift_free: float
    ratio_base_digital: float
    normalised: float


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the chips that both were measured on, in percentage points, with its confidence interval.

    ``device``, ``device_params`` and ``mapping`` are those of side a.
    """

    device: str
    device_params: str
    mapping: str
    metric: str
    age_s: float
    n_pairs: int
    mean: float
    low: float
    high: float


def group_by(items: Iterable[Item], names: Sequence[str]) -> dict[Hashable, list[Item]]:
    """Items by the values of the named fields, in order of first appearance."""
    key, groups = attrgetter(*names), {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def summarise(rows: Iterable[Row], n_classes: int | None = None) -> list[Summary]:
    """One summary per setting, line and age, lines in order of appearance and ages ascending.

    Args:
        rows: measurements, any mixture.
        n_classes: classes of a classification dataset, which gives the accuracy of chance for A*.
    """
    summaries = []
    for line in group_by(rows, SETTING + LINE).values():
        summaries += [_summary(same, n_classes) for _, same in sorted(group_by(line, ["age_s"]).items())]
    return summaries


def _summary(rows: list[Row], n_classes: int | None) -> Summary:
    values = [row.value for row in rows]
    several = len(values) > 1
    mean = statistics.fmean(values)
    drift_free = statistics.fmean(row.drift_free for row in rows)
    base = statistics.fmean(row.base_digital for row in rows)
    return Summary(
        **{name: getattr(rows[0], name) for name in (*SETTING, *LINE, "age_s")},
        n_chips=len(rows),
        mean=mean,
        std=statistics.stdev(values) if several else math.nan,
        p5=statistics.quantiles(values, n=20, method="inclusive")[0] if several else mean,
        drift_free=drift_free,
        base_digital=base,
        ratio_drift_free=_ratio(mean, drift_free),
        ratio_base_digital=_ratio(mean, base),
        normalised=1 - _ratio(base - mean, base - chance_percent(rows[0].metric, n_classes)),
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def chance_percent(metric: str, n_classes: int | None) -> float:
    """Top-k accuracy (percent) of guessing among balanced classes; nan for other metrics or unknown classes."""
    top = re.fullmatch(r"(?:top|acc)(\d+)|accuracy", metric)
    if top is None or n_classes is None:
        return math.nan
    return 100.0 * min(int(top[1] or 1), n_classes) / n_classes


def lifetime(rows: Iterable[Row], loss_points: float) -> float | None:
    """Age (s) at which the mean accuracy of one line first falls more than ``loss_points`` below base digital.

    Interpolated between evaluated ages in the logarithm of time, where age 0 counts as 1 s. 0.0 means that it never was
    above, None that it still is at the last age: the lifetime is then longer than what was evaluated.
    """
    summaries = summarise(rows)
    if len(group_by(summaries, SETTING + LINE)) != 1:
        raise ValueError("a lifetime needs the rows of exactly one network on one device, by one method and metric.")
    before = None
    for now in summaries:
        margin = now.mean - (now.base_digital - loss_points)
        log_age = math.log(max(now.age_s, 1.0))
        if margin < 0:
            if before is None:
                return 0.0 if now.age_s == 0 else now.age_s
            share = before[1] / (before[1] - margin)
            return math.exp(before[0] + share * (log_age - before[0]))
        before = log_age, margin
    return None


def paired_difference(
    rows: Iterable[Row], a: Mapping[str, Any], b: Mapping[str, Any], confidence: float = 0.95
) -> list[PairedDifference]:
    """How much better a is than b, on the same chips: one difference per age, metric and setting.

    Args:
        rows: measurements that contain both sides.
        a, b: what a row of either side is, e.g. ``{"network": "finetuned"}`` and ``{"network": "base"}``. Everything
            that neither names must agree between the two, chip seed included.
        confidence: of Student's t interval over chips. Not a bootstrap's: with ten chips a percentile bootstrap is too
            narrow by a sixth.

    Raises:
        UserError: a field is unknown, a side matches nothing, or a chip of one side is missing on the other.
    """
    rows = list(rows)
    sides = [_matching(rows, side) for side in (a, b)]
    held = [name for name in (*IDENTITY, "n_samples") if name not in {*a, *b}]
    chips = [name for name in ("chip_seed", "seed") if name in held]
    groups = [group_by(side, [name for name in held if name not in chips]) for side in sides]
    differences = []
    for key, ours in groups[0].items():
        theirs = groups[1].get(key)
        if theirs is None:
            continue
        ours_by_chip, theirs_by_chip = (group_by(side, chips) for side in (ours, theirs))
        if ours_by_chip.keys() != theirs_by_chip.keys():
            chip = next(iter(ours_by_chip.keys() ^ theirs_by_chip.keys()))
            raise UserError(
                f"chip {chip} was measured for only one of {dict(a)} and {dict(b)} at age {ours[0].age_s} s."
            )
        if any(len(same) > 1 for same in (*ours_by_chip.values(), *theirs_by_chip.values())):
            raise UserError(f"{dict(a)} and {dict(b)} do not name one measurement per chip each; name more fields.")
        values = [ours_by_chip[chip][0].value - theirs_by_chip[chip][0].value for chip in ours_by_chip]
        mean, margin = statistics.fmean(values), _t_margin(values, confidence)
        shared = {name: getattr(ours[0], name) for name in ("device", "device_params", "mapping", "metric", "age_s")}
        low, high = mean - margin, mean + margin
        differences.append(PairedDifference(**shared, n_pairs=len(values), mean=mean, low=low, high=high))
    if not differences:
        raise UserError(f"{dict(a)} and {dict(b)} have no setting and age in common.")
    return differences


def select(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows whose fields equal what is given; UserError where that is none."""
    return _matching(list(rows), wanted)


def _matching(rows: list[Row], wanted: Mapping[str, Any]) -> list[Row]:
    for name in wanted:
        if name not in Row.__dataclass_fields__:
            raise UserError(f"rows have no field '{name}'. {nearest(name, Row.__dataclass_fields__)}")
    found = [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]
    if not found:
        raise UserError(f"no row has {', '.join(f'{name} = {value!r}' for name, value in wanted.items())}.")
    return found


def _t_margin(values: list[float], confidence: float) -> float:
    if len(values) < 2:
        return math.inf
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
