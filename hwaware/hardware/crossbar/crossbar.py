"""The array of cells that a layer's weights are cut into, and what stands about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hwaware.errors import UserError
from hwaware.hardware.crossbar.converters import Converters
from hwaware.hardware.encoding import Encoding

_USUAL = 512


@dataclass(frozen=True, kw_only=True)
class Crossbar:
    """One crossbar. Inputs drive its rows; outputs are read at its columns.

    Attributes:
        rows, columns: its size, in weights.
        converters: at its inputs and outputs; None: both are exact.
    """

    rows: int = _USUAL
    columns: int = _USUAL
    converters: Converters | None = None

    def __post_init__(self) -> None:
        for field in ("rows", "columns"):
            size = getattr(self, field)
            if type(size) is not int or size < 1:
                raise UserError(f"crossbar: {field}={size} must be a whole number of at least 1; {_USUAL} is usual.")

    def reference_shape(self, weight: Sequence[int], groups: int) -> tuple[int, int, int]:
        """Groups, crossbars side by side, and rows: the reference cells of a layer, one per row and crossbar.

        Args:
            weight: the shape of the layer's weight.
            groups: of a convolution; 1 otherwise.
        """
        outputs = weight[0] // groups
        return groups, -(-outputs // self.columns), math.prod(weight[1:])

    def against_weights(self, reference: Tensor, weight: Sequence[int]) -> Tensor:
        """What each weight of a layer is read against, in its shape.

        Args:
            reference: of the layer's reference cells, in their shape.
            weight: the shape of the layer's weight.
        """
        outputs = weight[0] // len(reference)
        crossbar = torch.arange(outputs, device=reference.device) // self.columns
        return reference[:, crossbar].reshape(tuple(weight))

    def n_cells(self, encoding: Encoding, weight: Sequence[int], groups: int) -> int:
        """Cells that hold a layer's weights, parallel ones and reference columns included."""
        own = math.prod(weight) * encoding.cells_per_weight
        reference = math.prod(self.reference_shape(weight, groups)) if encoding.layout.reference else 0
        return own + reference * encoding.parallel

    def plain(self) -> dict[str, Any]:
        """All of it as plain types, in the form that recipes have it in."""
        converters = None if self.converters is None else self.converters.settings()
        return {"rows": self.rows, "columns": self.columns, "converters": converters}

    def params(self) -> dict[str, Any]:
        """The same as results have it: only what is not usual."""
        size = {name: value for name in ("rows", "columns") if (value := getattr(self, name)) != _USUAL}
        return size if self.converters is None else size | {"converters": self.converters.settings()}
