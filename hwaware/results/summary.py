"""Statistics over chips: pure functions of measurement rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from hwaware.results.csv import write_csv
from hwaware.results.row import Row
from hwaware.results.setting import LINE, SETTING, Setting, group_by

#: Points below base digital at which a chip no longer counts as good, and a network's life ends, by default.
LOSS_POINTS = 1.0


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
        yield_percent: the share of chips at most ``loss_points`` below base digital.
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
    yield_percent: float


def summarise(
    rows: Iterable[Row], chance: Mapping[str, float] | None = None, loss_points: float = LOSS_POINTS
) -> list[Summary]:
    """One summary per setting, line and age, lines in order of appearance and ages ascending.

    Args:
        rows: measurements, any mixture.
        chance: value (percent) of each metric without any knowledge, for A*: see ``hwaware.metrics.chance``.
        loss_points: points that a good chip may lie below base digital.
    """
    summaries = []
    for line in group_by(rows, SETTING + LINE).values():
        summaries += [
            _summary(same, chance or {}, loss_points) for _, same in sorted(group_by(line, ["age_s"]).items())
        ]
    return summaries


def _summary(rows: list[Row], chance: Mapping[str, float], loss_points: float) -> Summary:
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
        normalised=1 - _ratio(base - mean, base - chance.get(rows[0].metric, math.nan)),
        yield_percent=100.0 * sum(row.value >= row.base_digital - loss_points for row in rows) / len(rows),
    )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


@dataclass(frozen=True)
class Gain:
    """Mean difference between two networks or methods on the same chips.

    Attributes:
        n_pairs: chips that both were measured on.
        mean: of the differences, in points.
        margin: half the 95 % confidence interval, by Student's t over chips; nan for fewer than two.
    """

    n_pairs: int
    mean: float
    margin: float


def paired_gain(rows: Iterable[Row], reference: Iterable[Row]) -> Gain | None:
    """How much better ``rows`` are than ``reference``, chip by chip; None where they have no chip in common.

    Each side is one network by one method at one age and metric; pairs have chip and training seed in common.
    """
    theirs = {(row.chip_seed, row.seed): row.value for row in reference}
    by_chip: dict[int, list[float]] = {}
    for row in rows:
        if (key := (row.chip_seed, row.seed)) in theirs:
            by_chip.setdefault(row.chip_seed, []).append(row.value - theirs[key])
    pairs = [statistics.fmean(of_seeds) for of_seeds in by_chip.values()]  # training seeds are no further chips
    if not pairs:
        return None
    if len(pairs) < 2:
        return Gain(len(pairs), pairs[0], math.nan)
    from scipy.special import stdtrit

    # Not a bootstrap: with ten chips a percentile interval is too narrow by a sixth.
    quantile = float(stdtrit(len(pairs) - 1, 0.975))
    return Gain(len(pairs), statistics.fmean(pairs), quantile * statistics.stdev(pairs) / math.sqrt(len(pairs)))


def lifetime(rows: Iterable[Row], loss_points: float = LOSS_POINTS) -> float | None:
    """Age (s) at which the mean accuracy of one line first falls more than ``loss_points`` below base digital.

    Interpolated between evaluated ages in the logarithm of time, where age 0 counts as 1 s. The first age means that it
    never was above, None that it still is at the last age: the lifetime is then longer than what was evaluated. With
    fewer than two ages above 0 there is no course of time (a device without a law of time has only one), and it is nan.
    """
    summaries = summarise(rows)
    if len(group_by(summaries, SETTING + LINE)) != 1:
        raise ValueError("a lifetime needs the rows of exactly one network on one device, by one method and metric.")
    if sum(one.age_s > 0 for one in summaries) < 2:
        return math.nan
    before = None
    for now in summaries:
        margin = now.mean - (now.base_digital - loss_points)
        log_age = math.log(max(now.age_s, 1.0))
        if margin < 0:
            if before is None:
                return now.age_s
            share = before[1] / (before[1] - margin)
            return math.exp(before[0] + share * (log_age - before[0]))
        before = log_age, margin
    return None


def write_summary(
    path: str | Path, rows: Iterable[Row], chance: Mapping[str, float] | None = None, loss_points: float = LOSS_POINTS
) -> Path:
    """Writes what the rows amount to as CSV, a line per network and age, and returns the path.

    Columns are the fields of ``Summary`` and, the same for all ages of a network, ``lifetime_s`` with ``lifetime_is``:
    ``at`` that age the mean falls more than ``loss_points`` below base digital; or the lifetime is ``below`` the first
    age that was evaluated, or ``above`` the last. ``extrapolated`` is 1 where the device was not measured at that age.
    What is not known is an empty cell.

    Args:
        path: the file, replaced as a whole.
        rows: measurements, any mixture.
        chance, loss_points: see ``summarise``.
    """
    lines = []
    for line in group_by(rows, SETTING + LINE).values():
        summaries, age_s = summarise(line, chance, loss_points), lifetime(line, loss_points)
        if age_s is None:
            life = summaries[-1].age_s, "above"
        elif math.isnan(age_s):
            life = age_s, ""
        else:
            life = age_s, "below" if age_s == summaries[0].age_s else "at"
        setting = Setting.of(line[0])
        lines += [(*astuple(one), *life, int(setting.extrapolates(one.age_s))) for one in summaries]
    header = [field.name for field in fields(Summary)] + ["lifetime_s", "lifetime_is", "extrapolated"]
    return write_csv(path, header, ([known(value) for value in line] for line in lines))


def known(value: Any) -> Any:
    """A value as CSV files have it: what is not known, NaN, is an empty cell."""
    return "" if isinstance(value, float) and math.isnan(value) else value
