"""Timetables of repairs: the rows of ``timetable.csv``, one per drift level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwaware.results.csv import write_items
from hwaware.results.row import RepairLabels

NAME = "timetable.csv"


@dataclass(frozen=True)
class LevelLine(RepairLabels):
    """One drift level of a repair's schedule.

    Attributes:
        start_s: age (s) from which its parameters are used.
        mean, std: accuracy (percent) over simulated chips at ``start_s``, with these parameters.
        reached: whether the target is reached.
        target_percent: the target, in percent of the drift-free accuracy.
        drift_free: drift-free accuracy (percent).
        commit, version: commit and version of the source that planned.
    """

    start_s: float
    mean: float
    std: float
    reached: bool
    target_percent: float
    drift_free: float
    commit: str
    version: str


def write_timetable(path: str | Path, lines: Iterable[LevelLine]) -> Path:
    """Writes (or replaces) a ``timetable.csv``; returns its path."""
    return write_items(path, LevelLine, lines)
