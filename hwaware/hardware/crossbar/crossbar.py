"""The array of cells that a layer's weights are cut into, and what stands about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

import torch
from torch import Tensor

from hwaware.errors import UserError, nearest
from hwaware.hardware.crossbar.converters import Converters
from hwaware.hardware.crossbar.tiling import Tiling, tiling
from hwaware.hardware.crossbar.wires import Wires
from hwaware.hardware.encoding import Encoding

_USUAL = 512

#: Of one layer: what is where in them is kept as tables.
MOST_ARRAYS = 1_000_000

#: When cells draw read noise.
READ_NOISE = ("reading", "product")


@dataclass(frozen=True, kw_only=True)
class Crossbar:
    """One array. Inputs drive its rows; outputs are read at its columns.

    Attributes:
        rows, columns: its size, in cells. A weight takes a column for each of its cells, parallel ones included.
        converters: at its inputs and outputs; None: both are exact.
        wires: their resistance; None: they have none. Without converters and wires it makes no difference to what a
            layer computes how it is cut.
        read_noise: when cells draw their device's read noise: once for a ``reading`` of the whole chip at an age, or
            anew for each ``product`` with an input. In training it is drawn in each step.

    Examples:
        >>> Crossbar(rows=256, columns=256).rows
        256
    """

    rows: int = _USUAL
    columns: int = _USUAL
    converters: Converters | None = None
    wires: Wires | None = None
    read_noise: str = "reading"

    def __post_init__(self) -> None:
        for field in ("rows", "columns"):
            size = getattr(self, field)
            if type(size) is not int or size < 1:
                raise UserError(f"crossbar: {field}={size} must be a whole number of at least 1; {_USUAL} is usual.")

        if self.read_noise not in READ_NOISE:
            hint = nearest(self.read_noise, READ_NOISE)
            raise UserError(f"crossbar: read_noise '{self.read_noise}' is unknown. {hint}")

    def check_encoding(self, encoding: Encoding) -> None:
        """Raises UserError where a weight's cells do not fit side by side into an array with converters or wires."""
        needed = encoding.cells_per_weight + encoding.layout.reference * encoding.parallel
        if (self.converters is not None or self.wires is not None) and needed > self.columns:
            raise UserError(
                f"crossbar: columns={self.columns} are fewer than the {needed} cells of a weight "
                f"(parallel={encoding.parallel}), which are read together: give {needed} columns or fewer cells."
            )

    def check_layer(self, encoding: Encoding, weight: Sequence[int], groups: int) -> None:
        """Raises UserError where a layer would be cut into more than ``MOST_ARRAYS``; nothing is allocated for it.

        Args:
            encoding, weight, groups: as those of :meth:`tiling`.
        """
        n_arrays = self.tiling(encoding, weight, groups).n_arrays
        if n_arrays <= MOST_ARRAYS:
            return
        larger = (replace(self, rows=n * self.rows, columns=n * self.columns) for n in count(2))
        enough = next(one for one in larger if one.tiling(encoding, weight, groups).n_arrays <= MOST_ARRAYS)
        raise UserError(
            f"crossbar: rows={self.rows} and columns={self.columns} cut it into {n_arrays:,} arrays, more than "
            f"{MOST_ARRAYS:,}: give rows={enough.rows} and columns={enough.columns} or more."
        )

    def tiling(self, encoding: Encoding, weight: Sequence[int], groups: int) -> Tiling:
        """How a layer lies in arrays.

        Args:
            encoding: of its weights.
            weight: the shape of its weight.
            groups: of a convolution; 1 otherwise.
        """
        reference = encoding.parallel if encoding.layout.reference else 0
        return _tiling(self.rows, self.columns, tuple(weight), groups, encoding.cells_per_weight, reference)

    def reference_shape(self, encoding: Encoding, weight: Sequence[int], groups: int) -> tuple[int, int, int]:
        """Groups, arrays side by side, and rows: the reference cells of a layer, one per row and array."""
        cut = self.tiling(encoding, weight, groups)
        return groups, cut.sides, cut.n_rows

    def against_weights(self, encoding: Encoding, reference: Tensor, weight: Sequence[int]) -> Tensor:
        """What each weight of a layer is read against, in its shape.

        Args:
            encoding: of its weights.
            reference: of the layer's reference cells, in their shape.
            weight: the shape of the layer's weight.
        """
        cut = self.tiling(encoding, weight, len(reference))
        side = torch.arange(cut.outputs, device=reference.device) // cut.outputs_per_array
        return reference[:, side].reshape(tuple(weight))

    def n_cells(self, encoding: Encoding, weight: Sequence[int], groups: int) -> int:
        """Cells that hold a layer's weights, parallel ones and reference columns included."""
        return self.tiling(encoding, weight, groups).n_cells

    def plain(self) -> dict[str, Any]:
        """All of it as plain types, in the form that recipes have it in."""
        converters = None if self.converters is None else self.converters.settings()
        return {"rows": self.rows, "columns": self.columns, "converters": converters, **self._later()}

    def params(self) -> dict[str, Any]:
        """The same as results have it: only what is not usual."""
        size = {name: value for name in ("rows", "columns") if (value := getattr(self, name)) != _USUAL}
        converters = {} if self.converters is None else {"converters": self.converters.settings()}
        return size | converters | self._later()

    def _later(self) -> dict[str, Any]:
        """What came later than the first files, where it is not as usual."""
        wires = {} if self.wires is None else {"wires": self.wires.settings()}
        return wires | ({} if self.read_noise == READ_NOISE[0] else {"read_noise": self.read_noise})


_tiling = lru_cache(maxsize=4096)(tiling)
