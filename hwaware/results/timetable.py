"""When the parameters of repairs change, as ``timetable.csv`` keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwaware.results.csv import write_items
from hwaware.results.row import RepairLabels

NAME = "timetable.csv"


@dataclass(frozen=True)
class LevelLine(RepairLabels):
    """One drift level that a schedule planned for a repair.

    Attributes:
        start_s: age (s) from which its parameters are in use.
        mean, std: accuracy (percent) over simulated chips at its start, with them.
        reached: whether that meets the target.
        target_percent: the target, of the drift-free accuracy.
        drift_free: that accuracy (percent).
        commit, version: of the source that planned.
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
    """Replaces a ``timetable.csv``, and returns its path."""
    return write_items(path, LevelLine, lines)
