"""Several devices, mappings or encodings of one evaluation, in one table and one figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from hwaware.report.age_axis import age_positions, label_ages
from hwaware.report.drawing import accuracy_figure, draw_mean, legend, over_chips, save
from hwaware.report.labels import age_label, age_labels, common_conditions, constants, device_names, line_labels
from hwaware.report.style import COLOURS, DASHES, styled
from hwaware.report.tables import Grid, grid_of, grids, of_network
from hwaware.results.costs import Costs
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.hits import Hits
from hwaware.results.row import Row
from hwaware.results.setting import LINE, SETTING, group_by
from hwaware.results.summary import summarise

#: What several devices have in common where they can be compared.
_COMMON = ("model", "dataset", "metric", "n_samples")

_DEVICE = ("device", "device_params", "mapping")


def several(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each metric that was measured on more than one device, mapping or encoding."""
    return [same for same in group_by(rows, _COMMON).values() if len(group_by(same, SETTING)) > 1]


def few_grids(rows: Sequence[Row], criteria: Criteria = CRITERIA, hits: Hits | None = None) -> list[Grid]:
    """One table for each metric: of several devices that side by side."""
    found = []
    for same in group_by(rows, _COMMON).values():
        alone = len(group_by(same, SETTING)) == 1
        found.append(
            grids(same, (), "base", {}, criteria, hits)[0] if alone else side_by_side(same, {}, criteria, hits)
        )
    return found


def side_by_side(rows: Sequence[Row], costs: Costs, criteria: Criteria = CRITERIA, hits: Hits | None = None) -> Grid:
    """A table of rows of :func:`several`: a line for each network on each device, those of a network together."""
    names, labels = device_names(rows), line_labels(rows)
    lines = {
        f"{labels[line]} · {names[device]}": on_device
        for line, same in group_by(rows, LINE).items()
        for device, on_device in group_by(same, _DEVICE).items()
    }
    others = {names[device]: constants(same[0]) for device, same in group_by(rows, _DEVICE).items()}
    cells = "; ".join(f"{name}: {text}" for name, text in others.items() if text)
    return grid_of(
        lines, (_title(rows), common_conditions(rows), cells), of_network(rows, "base"), costs, criteria, hits
    )


@styled
def plot_side_by_side(rows: Sequence[Row], path: str | Path, chance: float | None = None) -> Path:
    """Mean accuracy over chips against age, a colour for each device and a dash for each network without repairs.

    Args:
        rows: of :func:`several`.
        path: the PNG file to write.
        chance: the metric without any knowledge (percent), where it is known.
    """
    alone = [row for row in rows if row.method == "none"] or list(rows)
    names, labels = device_names(rows), line_labels(rows)
    colours = dict(zip(names, itertools.cycle(COLOURS), strict=False))
    dashes = dict(zip(group_by(alone, LINE), itertools.cycle(DASHES), strict=False))
    lines = {
        (line, device): summarise(on_device)
        for line, same in group_by(alone, LINE).items()
        for device, on_device in group_by(same, _DEVICE).items()
    }
    positions = age_positions(row.age_s for row in alone)
    figure, axes = accuracy_figure(list(lines.values()), chance)
    for axis in axes:
        for (line, device), summaries in lines.items():
            x = [positions[one.age_s] for one in summaries]
            draw_mean(axis, x, summaries, colours[device], f"{labels[line]} · {names[device]}", dashes[line])
    label_ages(axes[-1], positions, age_labels(alone))
    legend(figure, axes[0], more=over_chips(lines.values()))
    return save(figure, axes[0], (_title(rows), common_conditions(alone)), path)


def best_devices(rows: Sequence[Row]) -> list[str]:
    """On which device each network without repairs keeps most at the greatest age, in a sentence each."""
    names, labels, sentences = device_names(rows), line_labels(rows), []
    last = max(row.age_s for row in rows)
    when = "just written" if last == 0 else f"after {age_label(last)}"
    for line, same in group_by([row for row in rows if row.method == "none" and row.age_s == last], LINE).items():
        found = {names[device]: summarise(on)[0] for device, on in group_by(same, _DEVICE).items()}
        if len(found) > 1:
            best, *_, worst = sorted(found, key=lambda name: found[name].lost)
            ends = [f"{found[name].mean:.2f} % on {name}" for name in (best, worst)]
            sentences.append(f"{labels[line]} {when}: best, {ends[0]}; worst, {ends[1]}.")
    return sentences


def _title(rows: Sequence[Row]) -> str:
    common = [name for name in ("device", "mapping") if len({getattr(row, name) for row in rows}) == 1]
    on = ", ".join(getattr(rows[0], name) for name in common) or "several devices"
    return f"{rows[0].model} on {rows[0].dataset} · {on}: {len(group_by(rows, _DEVICE))} side by side"
