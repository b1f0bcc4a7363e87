"""What a setting's rows amount to, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwaware.report.drawing import sentence
from hwaware.report.labels import line_labels, marked_age, metric_label, points_label
from hwaware.results.costs import Costs, bytes_label, cost_of
from hwaware.results.criteria import CRITERIA, Criteria, yield_lower_bound
from hwaware.results.metric import less_is_better
from hwaware.results.row import Row
from hwaware.results.setting import LINE, Setting, group_by
from hwaware.results.summary import Summary, lifetime, summarise

#: Points that an accuracy may lie below the best to count as one of the good ones, of which the cheapest is named.
_NEAR_POINTS = 0.5


def in_words(rows: Sequence[Row], costs: Costs, criteria: Criteria = CRITERIA) -> list[str]:
    """Sentences on the networks of one setting, then on their repairs, most important first.

    Args:
        rows: measurements of one setting.
        costs: what repairs cost.
        criteria: which loss is small, and which yield is asked.
    """
    last = max(row.age_s for row in rows)
    labels, lines = line_labels(rows), group_by(rows, LINE)
    summaries = {
        line: summarise([row for row in same if row.age_s == last], criteria=criteria) for line, same in lines.items()
    }
    ends = {line: found[0] for line, found in summaries.items() if found}
    alone = [line for line in ends if lines[line][0].method == "none"]
    sentences = [_network(labels[line], lines[line], ends[line], criteria) for line in alone]
    for network in dict.fromkeys(one.network for one in ends.values()):
        repaired = {line: one for line, one in ends.items() if one.network == network and one.method != "none"}
        if repaired:
            unrepaired = next((ends[line] for line in alone if ends[line].network == network), None)
            stored = {line: _bytes(lines[line][0], costs) for line in repaired}
            sentences.append(_repairs(labels, repaired, unrepaired, stored))
    return sentences


def in_short(rows: Sequence[Row], criteria: Criteria = CRITERIA) -> list[str]:
    """What matters most at the last age, in two or three sentences: the best line, how sure it is, and without it.

    Args:
        rows: measurements of one setting.
        criteria: which loss is small.
    """
    last = max(row.age_s for row in rows)
    lines, spoken = group_by(rows, LINE), _spoken(rows)
    ends = {line: [row for row in same if row.age_s == last] for line, same in lines.items()}
    found = {line: summarise(same, criteria=criteria)[0] for line, same in ends.items() if same}
    best = min(found, key=lambda line: found[line].lost)
    top = found[best]
    sentences = [sentence(f"{_at(top)}, {spoken[best]} {_reached(top)}.")]
    if top.n_chips > 1:
        good = _good(top, criteria)
        sentences.append("; ".join(filter(None, (good, _how_long(lines[best], top, criteria)))) + ".")
    plain = [line for line in found if lines[line][0].method == "none" and line != best]
    if plain:
        reference = next((line for line in plain if lines[line][0].network == "base"), plain[0])
        one = found[reference]
        kept = f"has {one.mean:.2f}" if less_is_better(one.metric) else f"keeps {_kept(one)} ({one.mean:.2f}\u00a0%)"
        sentences.append(sentence(f"{spoken[reference]} {kept}."))
    return sentences


#: What networks are called in a sentence.
_NETWORKS = {"base": "the pretrained network", "finetuned": "the finetuned network"}


def _spoken(rows: Sequence[Row]) -> dict[tuple[str, ...], str]:
    """What each line is called in a sentence."""
    spoken = {}
    for line, label in line_labels(rows).items():
        network, plus, repair = label.partition(" + ")
        spoken[line] = _NETWORKS.get(network, f"the network {network}") + (f" with {repair}" if plus else "")
    return spoken


def _reached(one: Summary) -> str:
    """What a line is at, beside the digital network."""
    metric = metric_label(one.metric)
    if less_is_better(one.metric):
        return f"has {one.mean:.2f} {metric}, the digital network {one.base_digital:.2f}"
    of = f"{one.mean:.2f}\u00a0% {metric} of {one.base_digital:.2f}\u00a0%"
    return f"keeps {_kept(one)} of the digital accuracy: {of}"


def _kept(one: Summary) -> str:
    return f"{100 * one.ratio_base_digital:.1f}\u00a0%"


def _good(end: Summary, criteria: Criteria) -> str:
    lose = "loses" if end.n_good == 1 else "lose"
    return f"{end.n_good} of {end.n_chips} chips {lose} at most {points_label(criteria.loss_points)}"


def _how_long(rows: Sequence[Row], end: Summary, criteria: Criteria) -> str:
    """For how long a line keeps what is asked, as part of a sentence; empty where that is not known."""
    life = lifetime(rows, criteria)
    if life is None:
        return ""
    what = "the mean stays within that"
    if criteria.yield_percent is not None:
        what = f"{criteria.yield_percent:g} % of the chips stay within that"
    if not life.ends:
        return f"{what} at all evaluated ages"
    if life.at_s is not None:
        return f"{what} for {_age(life.at_s, end)}"
    if life.after_s:
        return f"{what} for at least {_age(life.after_s, end)}, and less than {_age(life.before_s, end)}"
    return f"{what} for less than {_age(life.before_s, end)}" if life.before_s else ""


def _network(label: str, rows: Sequence[Row], end: Summary, criteria: Criteria) -> str:
    metric, loss = metric_label(end.metric), end.base_digital - end.mean
    against = (
        f"{abs(loss):.2f} points {'below' if loss > 0 else 'above'} the digital network's {end.base_digital:.2f} %"
    )
    text = f"{label}: {end.mean:.2f} % {metric} {_at(end)}, {against}"
    if end.n_chips > 1:
        text += f"; {_good(end, criteria)}"
        text += _yield(end, criteria)
    life = lifetime(rows, criteria)
    what, within = "The mean", "within that"
    if criteria.yield_percent is not None:
        what, within = "The yield", f"at {criteria.yield_percent:g} % or more"
    if life is None:
        return f"{text}."
    if not life.ends:
        return f"{text}. {what} keeps {within} all the time."
    if life.before_s == min(row.age_s for row in rows):
        return f"{text}. {what} is below that from the first age on."
    if life.at_s is not None:
        return f"{text}. {what} keeps {within} for {_age(life.at_s, end)}."
    return f"{text}. {what} falls below that between {_age(life.after_s, end)} and {_age(life.before_s, end)}."


def _yield(end: Summary, criteria: Criteria) -> str:
    """What so many good chips show of the yield that is asked."""
    if criteria.yield_percent is None:
        return ""
    asked = f"{criteria.yield_percent:g} %"
    if end.yield_percent < criteria.yield_percent:
        return f", which misses the yield of {asked}"
    sure, needed = yield_lower_bound(end.n_good, end.n_chips), criteria.chips_of_yield
    if sure >= criteria.yield_percent:
        return f", which shows the yield of {asked}"
    takes = "" if needed is None else f": {asked} takes {needed:,} chips, all good"
    return f", which shows a yield of {math.floor(sure):d} % (with 95 % confidence{takes})"


def _repairs(
    labels: dict[tuple[str, ...], str],
    repaired: dict[tuple[str, ...], Summary],
    unrepaired: Summary | None,
    stored: dict[tuple[str, ...], float],
) -> str:
    best = min(repaired, key=lambda line: repaired[line].lost)
    top = repaired[best]
    if unrepaired is not None and unrepaired.lost <= top.lost:
        return f"No repair is better than none {_at(top)}: {unrepaired.network} has {unrepaired.mean:.2f} %."
    text = f"Repaired, {labels[best]} is the best {_at(top)}: {top.mean:.2f} %"
    if unrepaired is not None:
        text += f", {top.mean - unrepaired.mean:.2f} points more than without"
    text += _for(stored[best]) + "."
    near = [line for line, one in repaired.items() if one.lost <= top.lost + _NEAR_POINTS]
    cheapest = min(near, key=stored.__getitem__)
    if cheapest != best and stored[cheapest] < stored[best]:
        one = repaired[cheapest]
        text += f" Within {_NEAR_POINTS:g} points of it, {labels[cheapest]} stores least: {one.mean:.2f} %"
        text += _for(stored[cheapest]) + "."
    return text


def _bytes(row: Row, costs: Costs) -> float:
    line = cost_of(row, costs)
    return math.inf if line is None else line.bytes_stored


def _for(stored: float) -> str:
    return "" if math.isinf(stored) else f", for {bytes_label(stored)}"


def _at(end: Summary) -> str:
    if end.age_s == 0:
        return "just written"
    return f"after {_age(end.age_s, end)}"


def _age(age_s: float, of: Summary) -> str:
    return marked_age(age_s, Setting.of(of), " (extrapolated)")
