"""What the repairs of an evaluation cost, and when their parameters change, as results keep it."""

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
    """What repairs cost.

    Args:
        repairs: of one evaluation, each with one of the rows that were measured with it.
    """
    lines: list[CostLine] = []
    sizes: dict[nn.Module, NetworkSize] = {}
    for row, repair in repairs:
        if repair.model not in sizes:  # a converted network is measured once, however often it is repaired
            sizes[repair.model] = _size(repair)
        lines.append(cost_line(row, repair, sizes[repair.model]))
    return lines


def cost_line(row: Row, repair: Repair, size: NetworkSize) -> CostLine:
    """What a repair of a network of this size costs, labelled as its row."""
    cost = asdict(repair.cost(size))
    return CostLine(**asdict(RepairLabels.of(row)), sets=repair.n_sets, **cost, commit=row.commit, version=row.version)


def level_lines(repairs: Iterable[tuple[Row, Repair]]) -> list[LevelLine]:
    """The drift levels that schedules planned; nothing without one."""
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
