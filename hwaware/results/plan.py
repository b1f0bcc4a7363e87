"""What planning measured and chose, as ``layers.csv`` and ``front.csv`` of a plan keep it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedLayer:
    """What a plan gives one layer.

    Attributes:
        layer: its name; layers tied to each other go under the name of one.
        weights: that it has.
        parallel: cells in parallel for each of its cells; 0: it stays digital.
        cells: that hold it.
        damage_nats: with one cell, see :class:`hwaware.results.sensitivity.LayerSensitivity`.
        planned_nats: that is left.
        encoding: what differs from the hardware that was given, as a JSON object; empty: nothing.
        arrays: that its cells lie in.
    """

    layer: str
    weights: int
    parallel: int
    cells: int
    damage_nats: float
    planned_nats: float
    encoding: str = ""
    arrays: int = 0


@dataclass(frozen=True)
class PlannedPoint:
    """One placement that was weighed; accuracies in percent.

    Attributes:
        cells_ratio: cells, over those of all layers with one in each place.
        digital_percent: weights that stay digital, of all.
        nats: damage that is expected of all layers together.
        predicted: accuracy that follows, by placements measured on planning chips.
        measured: accuracy on validation chips, their mean.
        std: over them; 0 for a single one.
        yield_percent: of them that lose no more points than asked; NaN where none are asked.
        exact: accuracy of the exact network.
        chosen: whether it is the plan.
    """

    cells_ratio: float
    digital_percent: float
    nats: float
    predicted: float
    measured: float
    std: float
    yield_percent: float
    exact: float
    chosen: bool = False
