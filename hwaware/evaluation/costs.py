"""Costs and timetables of the repairs of an evaluation, as rows of results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from torch import nn

from hwaware.compensation import Repair
from hwaware.compensation.costs import NetworkSize, network_size
from hwaware.results.costs import CostLine
from hwaware.results.row import RepairLabels, Row
from hwaware.results.timetable import LevelLine


def cost_lines(repairs: Iterable[tuple[Row, Repair]]) -> list[CostLine]:
    """Cost lines of repairs.

    Args:
        repairs: repairs of one evaluation, each with one of its rows.
    """
    lines: list[CostLine] = []
    sizes: dict[nn.Module, NetworkSize] = {}
    for row, repair in repairs:
        if repair.model not in sizes:  # each converted network is measured once
            sizes[repair.model] = _size(repair)
        lines.append(cost_line(row, repair, sizes[repair.model]))
    return lines


def cost_line(row: Row, repair: Repair, size: NetworkSize) -> CostLine:
    """Cost of a repair for a network of this size, with the labels of its row."""
    cost = asdict(repair.cost(size))
    return CostLine(**asdict(RepairLabels.of(row)), sets=repair.n_sets, **cost, commit=row.commit, version=row.version)


def level_lines(repairs: Iterable[tuple[Row, Repair]]) -> list[LevelLine]:
    """The drift levels of repairs with schedules; empty without one."""
    return [
        LevelLine(
            **asdict(RepairLabels.of(row)),
            start_s=level.start_s,
            mean=level.mean,
            std=level.std,
            reached=level.reached,
            target_percent=schedule.target_percent,
            drift_free=repair.timetable.drift_free,
            commit=row.commit,
            version=row.version,
        )
        for row, repair in repairs
        if (schedule := repair.schedule) is not None
        for level in repair.levels
    ]


def _size(repair: Repair) -> NetworkSize:
    data = repair.data
    return network_size(repair.model, data.predict, data.calibration(1), data.distillation, data.label_bytes)
