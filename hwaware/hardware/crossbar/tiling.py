"""How a layer's weights are cut into arrays of a size.

A layer's matrix has a row for each input that an output depends on (input channels, then the kernel's taps, as in the
layer's weight) and a column for each output. Its rows are cut at whole channels, into parts as even as they can be;
where an array has fewer rows than the kernel has taps, each channel's taps are cut. All parts of an output are read on
their own, and added in digital memory. Groups of a convolution that are small lie in one array along its diagonal:
nothing is where the rows of one cross the columns of another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RowPart:
    """The inputs of an output that lie in one array.

    Attributes:
        channels: input channels of a group, the first and one past the last.
        taps: of each of their kernels, likewise.
    """

    channels: tuple[int, int]
    taps: tuple[int, int]

    @property
    def n_rows(self) -> int:
        return (self.channels[1] - self.channels[0]) * (self.taps[1] - self.taps[0])


@dataclass(frozen=True)
class Tiling:
    """The arrays of one layer.

    Attributes:
        rows, columns: cells of an array.
        groups: of the layer.
        outputs: of a group.
        parts: of a group's rows, in order.
        weight_columns: columns that hold one output's weights.
        reference_columns: columns of each array that all others are read against.
    """

    rows: int
    columns: int
    groups: int
    outputs: int
    parts: tuple[RowPart, ...]
    weight_columns: int
    reference_columns: int

    @property
    def outputs_per_array(self) -> int:
        """Outputs side by side in an array; at least 1, whose columns then need several arrays."""
        return max(1, (self.columns - self.reference_columns) // self.weight_columns)

    @property
    def sides(self) -> int:
        """Arrays that a group's outputs need side by side."""
        return -(-self.outputs // self.outputs_per_array)

    @property
    def groups_per_array(self) -> int:
        """Groups along the diagonal of one array."""
        if len(self.parts) > 1 or self.sides > 1:
            return 1
        return max(1, min(self.rows // self.parts[0].n_rows, self.outputs_per_array // self.outputs))

    @property
    def fits(self) -> bool:
        """Whether one output's columns fit into an array."""
        return self.weight_columns + self.reference_columns <= self.columns

    @property
    def n_arrays(self) -> int:
        wide = -(-(self.weight_columns + self.reference_columns) // self.columns)
        return -(-self.groups // self.groups_per_array) * len(self.parts) * self.sides * wide

    @property
    def n_cells(self) -> int:
        """Cells in use, those of reference columns included."""
        rows = sum(part.n_rows for part in self.parts)
        return self.groups * rows * (self.outputs * self.weight_columns + self.sides * self.reference_columns)

    @property
    def utilisation(self) -> float:
        """Share of the arrays' cells that is in use."""
        return self.n_cells / (self.n_arrays * self.rows * self.columns)


def tiling(
    rows: int, columns: int, weight: Sequence[int], groups: int, weight_columns: int, reference_columns: int
) -> Tiling:
    """Cuts a layer's weight ``[C_out, C_in/groups, *kernel]``.

    Args:
        rows, columns: cells of an array.
        weight: the weight's shape.
        groups: of a convolution; 1 otherwise.
        weight_columns, reference_columns: see :class:`Tiling`.
    """
    outputs, channels, *kernel = weight
    taps = math.prod(kernel)
    if rows >= taps:
        parts = [RowPart(part, (0, taps)) for part in _even(channels, rows // taps)]
    else:
        cuts = _even(taps, rows)
        parts = [RowPart((channel, channel + 1), cut) for channel in range(channels) for cut in cuts]
    return Tiling(rows, columns, groups, outputs // groups, tuple(parts), weight_columns, reference_columns)


def _even(length: int, most: int) -> list[tuple[int, int]]:
    """Cuts a length into as few pieces of at most so many as there can be, as even as they can be."""
    pieces = -(-length // most)
    size = -(-length // max(pieces, 1))
    return [(start, min(start + size, length)) for start in range(0, length, size)]
