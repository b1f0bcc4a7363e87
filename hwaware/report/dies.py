"""How much of chips' differences lies between dies: a table for each setting in which chips share dies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwaware.report.labels import age_labels, die_spread_label, heading, line_labels
from hwaware.report.small import SmallTable
from hwaware.results.dies import DieVariance, die_variance
from hwaware.results.row import Row
from hwaware.results.setting import LINE, Setting, by_setting, group_by

_NOTE = (
    "Standard deviation between dies / on one die that is written anew, in points (share of the variance that is "
    "between dies, with its 95 % interval): one-way analysis of variance with random dies."
)


def die_tables(rows: Sequence[Row], varying: Sequence[str] = ()) -> list[SmallTable]:
    """One table per setting that can tell, a line a network and a column an age.

    Args:
        rows: measurements, any mixture.
        varying: device parameters that the titles name (:func:`hwaware.report.labels.varying_params`).
    """
    return [table for same in by_setting(rows).values() if (table := _table(same, varying))]


def _table(rows: Sequence[Row], varying: Sequence[str]) -> SmallTable | None:
    labels, ages = line_labels(rows), age_labels(rows)
    found = {
        line: {age_s: die_variance(at) for age_s, at in group_by(same, ["age_s"]).items()}
        for line, same in group_by(rows, LINE).items()
    }
    known = [one for by_age in found.values() for one in by_age.values() if one]
    if not known:
        return None
    lines = [(labels[line], *(_cell(by_age.get(age_s)) for age_s in ages)) for line, by_age in found.items()]
    where, spread = heading(rows, varying)[0], die_spread_label(Setting.of(rows[0]).params["die_spread"])
    words = (f"Between dies: {where}", *[spread] * (spread not in where), f"{known[0].n_chips} chips")
    return SmallTable(" · ".join(words), "network", tuple(ages.values()), tuple(lines), _NOTE)


def _cell(one: DieVariance | None) -> str:
    if one is None:
        return "–"
    parts = f"{one.between:.2f} / {one.within:.2f}"
    return parts if math.isnan(one.share) else f"{parts} ({one.share:.0f} %, {one.share_low:.0f}–{one.share_high:.0f})"
