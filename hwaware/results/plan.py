"""Measurements and choices of a plan: the rows of ``layers.csv`` and ``front.csv``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedLayer:
    """The plan for one layer.

    Attributes:
        layer: name of the layer; tied layers share one name.
        weights: number of weights.
        parallel: parallel cells for each cell of a weight; 0: the layer stays digital.
        cells: number of cells.
        damage_nats: damage with one cell, see :class:`hwaware.results.sensitivity.LayerSensitivity`.
        planned_nats: damage that remains with the plan.
        encoding: settings that differ from the given hardware, as a JSON object; empty: none.
        arrays: number of arrays.
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
    """One candidate placement; accuracies in percent.

    Attributes:
        cells_ratio: number of cells, relative to all layers without parallel cells.
        digital_percent: percentage of weights that stay digital.
        nats: expected damage of all layers together.
        predicted: predicted accuracy, from placements measured on planning chips.
        measured: mean accuracy on validation chips.
        std: its standard deviation over chips; 0 for a single chip.
        yield_percent: percentage of these chips that are good; NaN if no yield is required.
        exact: accuracy of the exact network.
        chosen: whether it is the chosen plan.
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
