"""The array of cells that a layer's weights are split over, with its wires and converters."""

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

#: Most arrays of one layer; their contents are kept as tables.
MOST_ARRAYS = 1_000_000

#: When cells draw read noise.
READ_NOISE = ("reading", "product")


@dataclass(frozen=True, kw_only=True)
class Crossbar:
    """One crossbar array. Inputs drive its rows; outputs are read at its columns.

    Attributes:
        rows, columns: its size, in cells. A weight takes one column for each of its cells, parallel cells included.
        converters: DACs and ADCs; None: inputs and outputs are exact.
        wires: wire resistance; None: ideal wires. Without converters and wires, the array size does not change what a
            layer computes.
        read_noise: when read noise is drawn: once for each ``reading`` of the chip at an age, or for each ``product``
            with an input. Training draws it in every step.

    Raises:
        UserError: a size or a word is invalid.

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
        """Raises UserError if an array with converters or wires is narrower than the cells of one weight."""
        needed = encoding.cells_per_weight + encoding.layout.reference * encoding.parallel
        if (self.converters is not None or self.wires is not None) and needed > self.columns:
            raise UserError(
                f"crossbar: columns={self.columns} are fewer than the {needed} cells of a weight "
                f"(parallel={encoding.parallel}), which are read together: give {needed} columns or fewer cells."
            )

    def check_layer(self, encoding: Encoding, weight: Sequence[int], groups: int) -> None:
        """Raises UserError if a layer would need more than ``MOST_ARRAYS`` arrays. Allocates nothing.

        Args:
            encoding, weight, groups: see :meth:`tiling`.
        """
        n_arrays = self.tiling(encoding, weight, groups).n_arrays
        if n_arrays <= MOST_ARRAYS:
            return
        larger = (replace(self, rows=n * self.rows, columns=n * self.columns) for n in count(2))
        enough = next(one for one in larger if one.tiling(encoding, weight, groups).n_arrays <= MOST_ARRAYS)
        raise UserError(
            f"crossbar: rows={self.rows} and columns={self.columns} split it into {n_arrays:,} arrays, more than "
            f"{MOST_ARRAYS:,}: give rows={enough.rows} and columns={enough.columns} or more."
        )

    def tiling(self, encoding: Encoding, weight: Sequence[int], groups: int) -> Tiling:
        """How a layer is split over arrays.

        Args:
            encoding: encoding of its weights.
            weight: shape of its weight, ``(C_out, C_in/groups, *kernel)``.
            groups: groups of a convolution; 1 otherwise.
        """
        reference = encoding.parallel if encoding.layout.reference else 0
        return _tiling(self.rows, self.columns, tuple(weight), groups, encoding.cells_per_weight, reference)

    def reference_shape(self, encoding: Encoding, weight: Sequence[int], groups: int) -> tuple[int, int, int]:
        """Shape of a layer's reference cells, one per row and array: ``(groups, arrays side by side, rows)``."""
        cut = self.tiling(encoding, weight, groups)
        return groups, cut.sides, cut.n_rows

    def against_weights(self, encoding: Encoding, reference: Tensor, weight: Sequence[int]) -> Tensor:
        """Expands reference-cell values to the shape of the weight: the reference that each weight is read against.

        Args:
            encoding: encoding of its weights.
            reference: values of the layer's reference cells, in :meth:`reference_shape`.
            weight: shape of the layer's weight.
        """
        cut = self.tiling(encoding, weight, len(reference))
        side = torch.arange(cut.outputs, device=reference.device) // cut.outputs_per_array
        return reference[:, side].reshape(tuple(weight))

    def n_cells(self, encoding: Encoding, weight: Sequence[int], groups: int) -> int:
        """Cells that hold a layer's weights, parallel cells and reference columns included."""
        return self.tiling(encoding, weight, groups).n_cells

    def plain(self) -> dict[str, Any]:
        """All settings as plain types, in the form that recipes use."""
        converters = None if self.converters is None else self.converters.settings()
        return {"rows": self.rows, "columns": self.columns, "converters": converters, **self._later()}

    def params(self) -> dict[str, Any]:
        """The settings as results store them: only those that differ from the default."""
        size = {name: value for name in ("rows", "columns") if (value := getattr(self, name)) != _USUAL}
        converters = {} if self.converters is None else {"converters": self.converters.settings()}
        return size | converters | self._later()

    def _later(self) -> dict[str, Any]:
        """Settings that older files lack, where they differ from the default."""
        wires = {} if self.wires is None else {"wires": self.wires.settings()}
        return wires | ({} if self.read_noise == READ_NOISE[0] else {"read_noise": self.read_noise})


_tiling = lru_cache(maxsize=4096)(tiling)
