"""What each layer's cells cost a network, as ``sensitivity.csv`` keeps it."""

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
    """What one layer costs when it alone is held in aged cells.

    Damage is the Kullback-Leibler divergence (nats, mean over calibration samples) of the network's answers from the
    exact network's. It is measured with several cells in parallel, few enough errors for the damages of layers to add.

    Attributes:
        rank: 1 is the layer that does most damage.
        layer: its name; layers tied to each other go under the name of one.
        weights: that it has.
        cells: that hold it with one cell where there can be several in parallel.
        age_s: of the chips (s).
        parallel: cells in parallel that it was measured with.
        weight_error: norm of the weights' error over that of the weights, with one cell; nan where all are zero.
        bias_nats: damage of what cells are read as on average, which more cells don't take away.
        noise_nats: that of their spread about it with one cell: what was measured, times ``parallel``.
        noise_std: of that, over chips; 0 for a single one.
        share_percent: of all layers' damage.
        encoding: what differs from the hardware that was given, as a JSON object; empty: nothing.
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
        """With one cell."""
        return self.bias_nats + self.noise_nats


def read_sensitivity(path: str | Path) -> list[LayerSensitivity]:
    """Reads ``sensitivity.csv``, whatever further columns it has.

    Raises:
        UserError: there is no such file, or it is of another form.
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
                line = {"encoding": ""} | line  # of files from before there were several
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
    """What is not known is an empty cell."""
    return float(cell) if cell else math.nan
