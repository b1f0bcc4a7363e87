"""Statistics over chips: pure functions of measurement rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.csv import write_csv
from hwaware.results.dies import die_of_row, die_variance
from hwaware.results.metric import less_is_better, margin, points_lost
from hwaware.results.row import Row
from hwaware.results.setting import LINE, SETTING, Setting, group_by


@dataclass(frozen=True)
class Summary:
    """One network on many chips at one age; accuracies in percent.

    Attributes:
        n_chips: number of chips (per training seed; several seeds are pooled).
        mean, std: mean and sample standard deviation over chips; NaN for a single chip.
        low: accuracy at the requested percentile, linearly interpolated; NaN if there are too few chips.
        worst: accuracy of the worst chip. If the metric is an error, this is the highest value, and ``low`` lies on
            that side (:func:`~hwaware.results.metric.less_is_better`).
        drift_free: accuracy of the network placed on exact hardware.
        base_digital: accuracy of the pretrained digital network.
        ratio_drift_free, ratio_base_digital: ``mean`` over these two.
        normalised: A* = 1 - (err - err_base)/(err_chance - err_base), iso-accurate above 0.99
            (Rasch et al., "Hardware-aware training for large-scale and diverse deep learning inference workloads using
            in-memory computing-based accelerators", arXiv 2302.08469); NaN if the chance level is unknown.
        yield_percent: percentage of good chips, at most ``loss_points`` below base digital.
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
    low: float
    worst: float
    drift_free: float
    base_digital: float
    ratio_drift_free: float
    ratio_base_digital: float
    normalised: float
    yield_percent: float

    @property
    def shown_low(self) -> float:
        """The accuracy that is shown beside the mean: the percentile or, with too few chips, the worst chip."""
        return self.worst if math.isnan(self.low) else self.low

    @property
    def lost(self) -> float:
        """Points that the mean is worse than base digital."""
        return points_lost(self.metric, self.base_digital, self.mean)

    @property
    def n_good(self) -> int:
        """Good chips."""
        return round(self.yield_percent * self.n_chips / 100)


def summarise(
    rows: Iterable[Row], chance: Mapping[str, float] | None = None, criteria: Criteria = CRITERIA
) -> list[Summary]:
    """One summary per setting, line and age, lines in order of appearance and ages ascending.

    Args:
        rows: measurements, in any mixture.
        chance: chance level (percent) of each metric, for A*; see ``hwaware.metrics.chance``.
        criteria: criteria of a good chip, and the requested percentile.
    """
    summaries = []
    for line in group_by(rows, SETTING + LINE).values():
        summaries += [_summary(same, chance or {}, criteria) for _, same in sorted(group_by(line, ["age_s"]).items())]
    return summaries


def _summary(rows: list[Row], chance: Mapping[str, float], criteria: Criteria) -> Summary:
    metric = rows[0].metric
    values = sorted((row.value for row in rows), reverse=less_is_better(metric))  # the worst first
    mean = statistics.fmean(values)
    drift_free = statistics.fmean(row.drift_free for row in rows)
    base = statistics.fmean(row.base_digital for row in rows)
    return Summary(
        **{name: getattr(rows[0], name) for name in (*SETTING, *LINE, "age_s")},
        n_chips=len(rows),
        mean=mean,
        std=statistics.stdev(values) if len(values) > 1 else math.nan,
        low=_percentile(values, criteria.percentile) if len(values) >= criteria.chips_of_percentile else math.nan,
        worst=values[0],
        drift_free=drift_free,
        base_digital=base,
        ratio_drift_free=_ratio(mean, drift_free),
        ratio_base_digital=_ratio(mean, base),
        normalised=1 - _ratio(base - mean, base - chance.get(rows[0].metric, math.nan)),
        yield_percent=100.0 * sum(_is_good(row, criteria) for row in rows) / len(rows),
    )


def _is_good(row: Row, criteria: Criteria) -> bool:
    return margin(row.metric, row.base_digital, row.value, criteria.loss_points) >= 0


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """Linearly interpolated."""
    place, part = divmod(percent / 100 * (len(ordered) - 1), 1)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return low + part * (high - low)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


@dataclass(frozen=True)
class Gain:
    """Mean difference between two networks or methods on the same chips.

    Attributes:
        n_pairs: number of chips (or dies, if chips share them) that both were measured on, with every training seed.
        mean: mean difference (points).
        margin: half the 95 % confidence interval over chips and, with three or more training seeds, over seeds; NaN for
            fewer than two chips, and for two seeds, which are too few for an interval over seeds.
        by_seed: mean difference of each training seed.
    """

    n_pairs: int
    mean: float
    margin: float
    by_seed: tuple[float, ...] = ()


def paired_gain(rows: Iterable[Row], reference: Iterable[Row]) -> Gain | None:
    """Mean gain of ``rows`` over ``reference``, chip by chip; None if they have no common chip.

    Each side is one network with one method, age and metric. Pairs share chip and training seed. Chips of one die are
    not independent: they count as one pair, with their mean.
    """
    theirs = {(row.chip_seed, row.seed): row.value for row in reference}
    by_seed: dict[int, dict[int, list[float]]] = {}
    for row in rows:
        if (key := (row.chip_seed, row.seed)) in theirs:
            by_seed.setdefault(row.seed, {}).setdefault(die_of_row(row), []).append(row.value - theirs[key])
    chips = sorted(set.intersection(*map(set, by_seed.values()))) if by_seed else []
    if not chips:
        return None
    differences = [[statistics.fmean(of_seed[chip]) for chip in chips] for of_seed in by_seed.values()]
    means = tuple(statistics.fmean(of_seed) for of_seed in differences)
    margin = crossed_margin(differences) if len(differences) != 2 else math.nan
    return Gain(len(chips), statistics.fmean(means), margin, means)


def crossed_margin(table: Sequence[Sequence[float]] | np.ndarray) -> float:
    """Half the 95 % confidence interval of a mean over two crossed random factors, such as seeds and chips.

    With ``a`` rows and ``b`` columns the variance of the mean is ``s²_rows/a + s²_columns/b - s²_rest/(ab)``, with the
    variances of row means, of column means and of the residuals. Degrees of freedom are Satterthwaite's; for a single
    row or column this is Student's t. In simulations with ten columns, the intervals cover the true mean in 93 to 97 %
    of cases for one, three or more rows. For two rows that differ as much as columns, or three times as much, coverage
    is 93 and 90 %, and the intervals are wider than the whole range of the data.

    Args:
        table: values, ``[a][b]``.
    """
    from scipy.special import stdtrit

    values = np.asarray(table, dtype=np.float64)
    of_rows, of_columns = values.mean(1), values.mean(0)
    ways = [means for means in (of_rows, of_columns) if len(means) > 1]
    parts = [(float(means.var(ddof=1)) / len(means), len(means) - 1) for means in ways]
    if not parts:
        return math.nan
    if len(parts) == 2:
        free = (len(of_rows) - 1) * (len(of_columns) - 1)
        rest = float(((values - of_rows[:, None] - of_columns + values.mean()) ** 2).sum())
        parts.append((-rest / free / values.size, free))
    # The total variance is at least as large as that of one factor; the difference of estimates may be smaller.
    variance = max(sum(part for part, _ in parts), *(part for part, _ in parts))
    if not variance:
        return 0.0
    free_of_mean = variance**2 / sum(part**2 / free for part, free in parts)
    # Not a bootstrap: with ten chips a percentile interval is too narrow by a sixth.
    return float(stdtrit(free_of_mean, 0.975)) * math.sqrt(variance)


#: Standard deviations in half a 95 % interval.
_Z = 1.959964


def sampling_margin(percent: float, n_samples: int) -> float:
    """Half the 95 % confidence interval (points) of an accuracy due to the number of samples only (Wilson).

    It holds for a fraction of hits. A mean of values between 0 and 1, such as F1, varies at most as much.
    """
    p, z2 = percent / 100, _Z**2
    return 100 * _Z * math.sqrt(p * (1 - p) / n_samples + z2 / (4 * n_samples**2)) / (1 + z2 / n_samples)


#: A lifetime is interpolated (in the logarithm of time) only between two ages within this factor of each other.
NARROW = 2.0


@dataclass(frozen=True)
class Life:
    """Lifetime of one line: how long it meets the criterion for its mean accuracy or its yield.

    Attributes:
        after_s: last evaluated age (s) at which it is met; 0 if it is met at none.
        before_s: first evaluated age (s) at which it is not met; inf if it is met at all.
        at_s: interpolated age (s) at which it is first missed, if both are within a factor :data:`NARROW`; None
            otherwise, since interpolation over a decade would be a guess.
    """

    after_s: float
    before_s: float
    at_s: float | None = None

    @property
    def ends(self) -> bool:
        """Whether it ends within the evaluated ages."""
        return self.before_s < math.inf


def lifetime(rows: Iterable[Row], criteria: Criteria = CRITERIA) -> Life | None:
    """The evaluated ages between which one line first misses the criterion.

    The criterion is a mean at most ``loss_points`` below base digital or, if a yield is required, enough good chips.
    None with fewer than two ages above 0 (a device with a time-independent law has only one).
    """
    summaries = summarise(rows, criteria=criteria)
    if len(group_by(summaries, SETTING + LINE)) != 1:
        raise ValueError("a lifetime needs the rows of exactly one network on one device, by one method and metric.")
    if sum(one.age_s > 0 for one in summaries) < 2:
        return None
    before: tuple[float, float] | None = None
    for now in summaries:
        room = margin(now.metric, now.base_digital, now.mean, criteria.loss_points)
        if criteria.yield_percent is not None:
            room = now.yield_percent - criteria.yield_percent
        if room < 0:
            if before is None:
                return Life(0.0, now.age_s)
            age_s, kept = before
            if not age_s or now.age_s > NARROW * age_s:
                return Life(age_s, now.age_s)
            return Life(age_s, now.age_s, age_s * (now.age_s / age_s) ** (kept / (kept - room)))
        before = now.age_s, room
    return Life(summaries[-1].age_s, math.inf)


#: Columns of a summary with the variance components, if chips share dies.
_OF_DIES = ("std_between_dies", "std_within_die", "die_share_percent", "die_share_low", "die_share_high")


def write_summary(
    path: str | Path, rows: Iterable[Row], chance: Mapping[str, float] | None = None, criteria: Criteria = CRITERIA
) -> Path:
    """Writes a summary of rows as CSV, one line per network and age; returns the path.

    Columns are the fields of ``Summary`` (``low`` is named ``p5`` for the 5th percentile) and the lifetime, which is
    the same for all ages of a network. ``lifetime_is`` says how to read ``lifetime_s``: the criterion is first missed
    ``at`` that age; or ``after`` that age and before ``lifetime_before_s``, the next evaluated age; or the lifetime is
    ``below`` the first or ``above`` the last evaluated age. ``extrapolated`` is 1 if the device was not measured at
    that age. If chips share dies, the columns ``std_between_dies`` to ``die_share_high`` have the fields of
    :class:`~hwaware.results.dies.DieVariance`. Unknown values are empty cells.

    Args:
        path: path of the file, which is replaced atomically.
        rows: measurements, in any mixture.
        chance: see :func:`summarise`.
        criteria: see :func:`lifetime`.
    """
    lines, dies = [], []
    for line in group_by(rows, SETTING + LINE).values():
        summaries, life = summarise(line, chance, criteria), _in_file(lifetime(line, criteria))
        setting = Setting.of(line[0])
        lines += [(*astuple(one), *life[:2], int(setting.extrapolates(one.age_s)), life[2]) for one in summaries]
        by_age = group_by(line, ["age_s"])
        dies += [die_variance(by_age[one.age_s]) for one in summaries]
    header = [f"p{criteria.percentile:g}" if field.name == "low" else field.name for field in fields(Summary)]
    header += ["lifetime_s", "lifetime_is", "extrapolated", "lifetime_before_s"]
    if any(dies):
        header += _OF_DIES
        lines = [(*line, *(astuple(one) if one else ("",) * 7)[2:]) for line, one in zip(lines, dies, strict=True)]
    return write_csv(path, header, ([known(value) for value in line] for line in lines))


def _in_file(life: Life | None) -> tuple[float, str, float]:
    """A lifetime as the values of three columns."""
    if life is None:
        return math.nan, "", math.nan
    if not life.ends:
        return life.after_s, "above", math.nan
    if not life.after_s and not life.before_s:
        return 0.0, "below", math.nan
    if life.at_s is not None:
        return life.at_s, "at", math.nan
    return (life.after_s, "after", life.before_s) if life.after_s else (life.before_s, "below", math.nan)


def known(value: Any) -> Any:
    """A value for a CSV file: NaN (unknown) becomes an empty cell."""
    return "" if isinstance(value, float) and math.isnan(value) else value
