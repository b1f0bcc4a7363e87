"""Repairs that were not installed, since they would do harm, as ``refused.csv`` keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hwaware.results.csv import write_items
from hwaware.results.row import Row

NAME = "refused.csv"


@dataclass(frozen=True)
class Refusal:
    """One chip at one age on which a repair was not installed.

    Attributes:
        chip_seed: of the chip.
        age_s: its age (s).
        error_before, error_after: of the network's last output on the stored samples, without the repair and with it:
            squares of its difference from the exact network's, over the squares of that.
    """

    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


@dataclass(frozen=True)
class RefusedLine:
    """The same with what it is of; see :class:`hwaware.results.row.Row`."""

    network: str
    device: str
    device_params: str
    mapping: str
    method: str
    method_params: str
    chip_seed: int
    age_s: float
    error_before: float
    error_after: float


def refused_lines(row: Row, refusals: Iterable[Refusal]) -> list[RefusedLine]:
    """The lines of the repair that a row is of."""
    about = (row.network, row.device, row.device_params, row.mapping, row.method, row.method_params)
    ordered = sorted(refusals, key=lambda one: (one.chip_seed, one.age_s))
    return [RefusedLine(*about, one.chip_seed, one.age_s, one.error_before, one.error_after) for one in ordered]


def write_refused(path: str | Path, lines: Iterable[RefusedLine]) -> Path:
    """Writes them as CSV, and returns the path."""
    return write_items(path, RefusedLine, lines)
