"""Axes of ages: logarithmic, a tick at every decade of seconds, labelled in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hwaware.report.labels import age_label
from hwaware.report.style import INK, WIDTH_IN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Ages (s) in the order in which an axis rather does without.
_ROUND_S = (1.0, 3600.0, 86400.0, 31536000.0, 315360000.0, 2592000.0, 60.0, 604800.0)

#: Of a label's letter, and of the room beside the axis (inches).
_LETTER_IN, _BESIDE_IN = 0.06, 0.7


def age_positions(ages: Iterable[float]) -> dict[float, float]:
    """Where each age stands: log10 of seconds, and age 0, if it is there, one step left of the youngest other."""
    ages = list(ages)
    positive = sorted({age for age in ages if age > 0})
    positions = {age: math.log10(age) for age in positive}
    span = (positions[positive[-1]] - positions[positive[0]]) if positive else 0.0
    if 0 in ages:
        positions[0.0] = (positions[positive[0]] if positive else 0.0) - max(0.9, 0.14 * span)
    return positions


def label_ages(axis: Axes, positions: Mapping[float, float], labels: Mapping[float, str] | None = None) -> None:
    """Ticks in words at these positions, as many as fit, and small ones at every decade of seconds.

    The axis is cut between age 0, where it is there, and the first other.

    Args:
        axis: whose x runs over :func:`age_positions`.
        positions: of ages (s).
        labels: of ages, where they are not just said in words.
    """
    ages = sorted(positions)
    texts = {age_s: (labels or {}).get(age_s) or age_label(age_s) for age_s in ages}
    shown = _fitting(ages, positions, texts)
    if len(shown) < len(ages):  # the unit below the number takes less room
        texts = {age_s: text.replace(" ", "\n", 1) if len(text) > 4 else text for age_s, text in texts.items()}
        shown = _fitting(ages, positions, texts)
    axis.set_xticks([positions[age] for age in shown], [texts[age] for age in shown])
    first = next((positions[age] for age in ages if age > 0), 0.0)
    decades = range(math.ceil(first - 1e-9), math.floor(positions[ages[-1]] + 1e-9) + 1)
    axis.set_xticks(list(decades), minor=True)
    if ages[0] == 0 and len(ages) > 1:
        cut = (positions[0.0] + first) / 2
        axis.plot([cut], [0], marker=[(-1, -2), (1, 2)], markersize=7, color=INK, linestyle="none", linewidth=0.7,
                  transform=axis.get_xaxis_transform(), clip_on=False)  # fmt: skip
    axis.set_xlabel("age since programming (log scale)")


def round_ages(youngest_s: float, oldest_s: float) -> dict[float, float]:
    """Positions of what people name between two ages (s), for an axis that is not of measurements."""
    return {age_s: math.log10(age_s) for age_s in _ROUND_S if youngest_s <= age_s <= oldest_s}


def _fitting(ages: Sequence[float], positions: Mapping[float, float], texts: Mapping[float, str]) -> list[float]:
    """Ages whose labels do not run into one another: the ends, then round ones, then those between."""
    span = positions[ages[-1]] - positions[ages[0]] or 1.0
    inches = (WIDTH_IN - _BESIDE_IN) / (1.1 * span)  # matplotlib leaves a margin of a twentieth on each side
    wanted = [ages[0], ages[-1], *(age for age in _ROUND_S if age in positions), *_evenly(ages, positions)]
    half_in = {age_s: _LETTER_IN * (max(map(len, texts[age_s].split("\n"))) + 1) / 2 for age_s in wanted}
    shown: list[float] = []
    for age_s in dict.fromkeys(wanted):
        apart = (abs(positions[age_s] - positions[one]) * inches - half_in[one] for one in shown)
        if all(one > half_in[age_s] for one in apart):
            shown.append(age_s)
    return sorted(shown)


def _evenly(ages: Sequence[float], positions: Mapping[float, float]) -> list[float]:
    """Some of them, evenly apart, so that a thousand take no time."""
    start, end = positions[ages[0]], positions[ages[-1]]
    wanted = [start + (end - start) * place / 24 for place in range(25)]
    return list(dict.fromkeys(min(ages, key=lambda age: abs(positions[age] - one)) for one in wanted))
