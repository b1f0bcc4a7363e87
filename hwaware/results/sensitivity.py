"""Sensitivity of a network to the errors of each layer's cells: the rows of ``sensitivity.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hwaware.errors import UserError, nearest_path


@dataclass(frozen=True)
class LayerSensitivity:
    """Damage of one layer when only this layer is held in aged cells.

    Damage is the Kullback-Leibler divergence (nats, mean over calibration samples) of the network's outputs from the
    exact network's. It is measured with several parallel cells, so that errors are small and damages of layers add up.

    Attributes:
        rank: rank of the layer; 1 does the most damage.
        layer: name of the layer; tied layers share one name.
        weights: number of weights.
        cells: number of cells without parallel cells.
        age_s: age (s) of the chips.
        parallel: number of parallel cells in the measurement.
        weight_error: norm of the weights' error over the norm of the weights, with one cell; NaN if all are zero.
        bias_nats: damage of the mean error, which parallel cells do not reduce.
        noise_nats: damage of the spread with one cell: the measured value times ``parallel``.
        noise_std: standard deviation of ``noise_nats`` over chips; 0 for a single chip.
        share_percent: percentage of the damage of all layers.
        encoding: settings that differ from the given hardware, as a JSON object; empty: none.
    """

    rank: int
    layer: str
    weights: int
    cells: int
    age_s: float
    parallel: int
    weight_error: float
    bias_nats: float
    noise_nats: float
    noise_std: float
    share_percent: float
    encoding: str = ""

    @property
    def damage_nats(self) -> float:
        """Total damage (nats) with one cell."""
        return self.bias_nats + self.noise_nats


def read_sensitivity(path: str | Path) -> list[LayerSensitivity]:
    """Reads ``sensitivity.csv``; further columns are ignored.

    Raises:
        UserError: there is no such file, or it has another form.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"sensitivity: there is no file '{path}'. {nearest_path(path)}".rstrip())
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": _number, "str": str}
    found = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for line in reader:
                line = {"encoding": ""} | line  # older files have no such column
                found.append(
                    LayerSensitivity(
                        **{one.name: kinds[str(one.type)](line[one.name]) for one in fields(LayerSensitivity)}
                    )
                )
    except KeyError as error:
        raise UserError(f"sensitivity '{path}' has no column {error}: hwaware sensitivity writes such files.") from None
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(f"sensitivity '{path}', line {reader.line_num}: {error}.") from None
    if not found:
        raise UserError(f"sensitivity '{path}' has no layers.")
    return found


def _number(cell: str) -> float:
    """A number; an empty cell is NaN (unknown)."""
    return float(cell) if cell else math.nan
