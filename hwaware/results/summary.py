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
        n_chips: chips measured (per training seed; several seeds are pooled).
        mean, std: over chips; the sample standard deviation, nan for a single chip.
        low: the chip at the percentile that is asked for, linearly interpolated; nan of fewer chips than it takes.
        worst: the least accurate chip. Of a metric that is an error it has the highest value, and ``low`` lies on that
            side (:func:`~hwaware.results.metric.less_is_better`).
        drift_free: the exact network placed on the chip.
        base_digital: the digital network that was started from.
        ratio_drift_free, ratio_base_digital: ``mean`` over either.
        normalised: A* = 1 - (err - err_base)/(err_chance - err_base), iso-accurate above 0.99
            (Rasch et al., "Hardware-aware training for large-scale and diverse deep learning inference workloads using
            in-memory computing-based accelerators", arXiv 2302.08469); nan where chance is not known.
        yield_percent: the share of good chips: at most ``loss_points`` worse than base digital.
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
        """The chip that is shown beside the mean: that of the percentile or, of too few chips, the worst."""
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
        rows: measurements, any mixture.
        chance: value (percent) of each metric without any knowledge, for A*: see ``hwaware.metrics.chance``.
        criteria: what a good chip is, and which percentile is asked for.
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
        n_pairs: chips (dies, where chips share them) that both were measured on, with every training seed.
        mean: of the differences, in points.
        margin: half the 95 % confidence interval over chips and, of three training seeds or more, over these; nan for
            fewer than two chips, and for two seeds, of which nobody can tell how far others would lie.
        by_seed: the mean of each training seed.
    """

    n_pairs: int
    mean: float
    margin: float
    by_seed: tuple[float, ...] = ()


def paired_gain(rows: Iterable[Row], reference: Iterable[Row]) -> Gain | None:
    """How much better ``rows`` are than ``reference``, chip by chip; None where they have no chip in common.

    Each side is one network by one method at one age and metric; pairs have chip and training seed in common. Chips of
    one die are not independent: theirs count as one pair, by its mean.
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
    """Half the 95 % confidence interval of a mean over two ways in which values differ, such as seeds and chips.

    With ``a`` rows and ``b`` columns the variance of the mean is ``s²_rows/a + s²_columns/b - s²_rest/(ab)``: variances
    of row means and of column means, and of what both leave. Degrees of freedom are Satterthwaite's; of a single row or
    column it is Student's t. By simulation, with ten columns, such intervals hold the true mean in 93 to 97 % of cases
    where there are one, three or more rows; of two rows that differ as columns do, or three times as much, in 93 and
    90 %, and then they are wider than all that is measured.

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
    # What differs in both ways differs at least as much as in one: the difference of estimates may fall below.
    variance = max(sum(part for part, _ in parts), *(part for part, _ in parts))
    if not variance:
        return 0.0
    free_of_mean = variance**2 / sum(part**2 / free for part, free in parts)
    # Not a bootstrap: with ten chips a percentile interval is too narrow by a sixth.
    return float(stdtrit(free_of_mean, 0.975)) * math.sqrt(variance)


#: Of a 95 % interval.
_Z = 1.959964


def sampling_margin(percent: float, n_samples: int) -> float:
    """Half the 95 % confidence interval (points) of an accuracy by the number of its samples alone (Wilson's).

    Exact for a share of hits. A mean of values between 0 and 1, such as F1, varies at most as much.
    """
    p, z2 = percent / 100, _Z**2
    return 100 * _Z * math.sqrt(p * (1 - p) / n_samples + z2 / (4 * n_samples**2)) / (1 + z2 / n_samples)


#: Within this factor of one another two ages tell a lifetime, by interpolation in the logarithm of time.
NARROW = 2.0


@dataclass(frozen=True)
class Life:
    """For how long one line keeps what is asked: of its mean accuracy, or of the share of good chips.

    Attributes:
        after_s: the last evaluated age (s) at which it still does; 0 where it does at none.
        before_s: the first at which it no longer does; inf where it does at all.
        at_s: the age between them at which it falls below, where they are within :data:`NARROW` of each other; else
            None, since over a decade nobody knows.
    """

    after_s: float
    before_s: float
    at_s: float | None = None

    @property
    def ends(self) -> bool:
        """Whether it ends within the ages that were evaluated."""
        return self.before_s < math.inf


def lifetime(rows: Iterable[Row], criteria: Criteria = CRITERIA) -> Life | None:
    """Between which evaluated ages one line first misses what is asked.

    That is where its mean falls more than ``loss_points`` below base digital or, where a yield is asked, where fewer
    chips are good. With fewer than two ages above 0 there is no course of time (a device without a law of time has only
    one): None.
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


#: Columns of a summary that say how chips' variance parts, where they share dies.
_OF_DIES = ("std_between_dies", "std_within_die", "die_share_percent", "die_share_low", "die_share_high")


def write_summary(
    path: str | Path, rows: Iterable[Row], chance: Mapping[str, float] | None = None, criteria: Criteria = CRITERIA
) -> Path:
    """Writes what the rows amount to as CSV, a line per network and age, and returns the path.

    Columns are the fields of ``Summary`` (``low`` is ``p5`` for the 5th percentile) and, the same for all ages of a
    network, ``lifetime_s`` with ``lifetime_is``: ``at`` that age it misses what is asked; or ``after`` that age, and
    before ``lifetime_before_s``, the next that was evaluated; or the lifetime is ``below`` the first of them, or
    ``above`` the last. ``extrapolated`` is 1 where the device was not measured at that age. Where chips share dies,
    further columns have what :class:`~hwaware.results.dies.DieVariance` says, ``std_between_dies`` to
    ``die_share_high``. What is not known is an empty cell.

    Args:
        path: the file, replaced as a whole.
        rows: measurements, any mixture.
        chance: see ``summarise``.
        criteria: see ``lifetime``.
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
    """A lifetime as three columns have it."""
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
    """A value as CSV files have it: what is not known, NaN, is an empty cell."""
    return "" if isinstance(value, float) and math.isnan(value) else value
