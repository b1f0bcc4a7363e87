"""Variance over chips, split into the part between dies and the part between writings of one die."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hwaware.results.row import Row
from hwaware.results.setting import group_by, params_of


@dataclass(frozen=True)
class DieVariance:
    """Components of a result's variance over chips: one-way analysis of variance with random dies.

    Attributes:
        n_dies, n_chips: number of measured dies and chips.
        between: standard deviation (points) between dies, caused by their constants.
        within: standard deviation (points) within a die, caused by other draws of its cells.
        share: percentage of the variance that is between dies; NaN if chips do not differ.
        share_low, share_high: its 95 % interval, exact for equally many chips per die and Gaussian accuracies.
    """

    n_dies: int
    n_chips: int
    between: float
    within: float
    share: float
    share_low: float
    share_high: float


def die_of_row(row: Row) -> int:
    """The number of the die of a row's chip; the chip's seed if each chip is a die."""
    return row.chip_seed // (params_of(row.device_params).get("die_spread") or {}).get("chips_per_die", 1)


def die_variance(rows: Iterable[Row]) -> DieVariance | None:
    """Variance components of one network over chips, for one method and age; None if the rows do not determine them.

    At least two dies are needed, and two chips of one die (``die_spread.chips_per_die``). Components are estimated by
    the method of moments; a negative estimate becomes 0. Mean squares are averaged over training seeds, which share the
    chips.
    """
    found = [part for same in group_by(rows, ["seed"]).values() if (part := _mean_squares(same))]
    if not found:
        return None
    n_dies, n_chips, size, *_ = found[0]
    between = statistics.fmean(part[3] for part in found)
    within = statistics.fmean(part[4] for part in found)
    variance = max((between - within) / size, 0.0)
    share, low, high = _share(between, within, size, (n_dies - 1, n_chips - n_dies))
    return DieVariance(n_dies, n_chips, math.sqrt(variance), math.sqrt(within), share, low, high)


def _mean_squares(rows: Sequence[Row]) -> tuple[int, int, float, float, float] | None:
    """Dies, chips, chips per die (the effective number if they differ), mean squares between and within.

    S. R. Searle, G. Casella and C. E. McCulloch, Variance Components (1992), chapter 3.
    """
    dies: dict[int, list[float]] = {}
    for row in rows:
        dies.setdefault(die_of_row(row), []).append(row.value)
    n_chips, n_dies = len(rows), len(dies)
    if n_dies < 2 or n_chips == n_dies:
        return None
    mean = statistics.fmean(row.value for row in rows)
    between = sum(len(values) * (statistics.fmean(values) - mean) ** 2 for values in dies.values())
    within = sum((value - statistics.fmean(values)) ** 2 for values in dies.values() for value in values)
    size = (n_chips - sum(len(values) ** 2 for values in dies.values()) / n_chips) / (n_dies - 1)
    return n_dies, n_chips, size, between / (n_dies - 1), within / (n_chips - n_dies)


def _share(between: float, within: float, size: float, freedom: tuple[int, int]) -> tuple[float, float, float]:
    """Percentage of the variance between dies, and its 95 % interval, by the F distribution."""
    from scipy.special import fdtri

    if not within:
        return (100.0, 100.0, 100.0) if between else (math.nan,) * 3

    def percent(ratio: float) -> float:
        return 100 * max(ratio - 1, 0.0) / (max(ratio - 1, 0.0) + size)

    ratio = between / within
    low, high = (percent(ratio / float(fdtri(*freedom, level))) for level in (0.975, 0.025))
    return percent(ratio), low, high
