"""Which layers an accuracy depends on most, as ``sensitivity.csv`` keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer costs when it alone is held in aged cells; accuracies in percent, means over chips.

    Attributes:
        rank: 1 is the layer that loses most.
        layer: its name.
        cells: that hold it.
        age_s: of the chips (s).
        weight_error: norm of the weights' error over that of the weights.
        loss_points: accuracy that is lost.
        loss_std: over chips; 0 for a single one.
        kept_accuracy: with this layer and all that lose more kept digital, and the others in cells.
        kept_cells_percent: of the network's cells that are then saved, as the layers need digital memory instead.
        exact_accuracy, all_accuracy: of the exact network, and with every layer in cells.
    """

    rank: int
    layer: str
    cells: int
    age_s: float
    weight_error: float
    loss_points: float
    loss_std: float
    kept_accuracy: float
    kept_cells_percent: float
    exact_accuracy: float
    all_accuracy: float
