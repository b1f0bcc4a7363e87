"""How a layer's weights are split over arrays of a given size.

A layer's matrix has one row for each input that an output depends on (input channels, then the kernel's taps, as in the
layer's weight) and one column for each output. The rows are split at whole channels, into parts as even as possible. If
an array has fewer rows than the kernel has taps, the taps of each channel are split. The parts of an output are read
separately and added digitally. Small groups of a convolution share an array along its diagonal; the cells where the
rows of one group cross the columns of another are unused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class RowPart:
    """The inputs of an output that one array holds.

    Attributes:
        channels: input channels of a group, ``[first, last + 1)``.
        taps: taps of their kernels, ``[first, last + 1)``.
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
        rows, columns: size of an array, in cells.
        groups: groups of the layer.
        outputs: outputs of a group.
        channels: input channels of a group.
        taps: taps of a kernel; 1 for linear layers.
        weight_columns: columns that hold the weights of one output.
        reference_columns: reference columns of each array, which all others are read against.
    """

    rows: int
    columns: int
    groups: int
    outputs: int
    channels: int
    taps: int
    weight_columns: int
    reference_columns: int

    @cached_property
    def parts(self) -> tuple[RowPart, ...]:
        """The parts that a group's rows are split into, in order."""
        if self.rows >= self.taps:
            return tuple(RowPart(part, (0, self.taps)) for part in _even(self.channels, self.rows // self.taps))
        cuts = _even(self.taps, self.rows)
        return tuple(RowPart((channel, channel + 1), cut) for channel in range(self.channels) for cut in cuts)

    @property
    def n_parts(self) -> int:
        """Number of :attr:`parts`, without building them."""
        if self.rows >= self.taps:
            return -(-self.channels // (self.rows // self.taps))
        return self.channels * -(-self.taps // self.rows)

    @property
    def n_rows(self) -> int:
        """Rows of a group, over all parts."""
        return self.channels * self.taps

    @property
    def outputs_per_array(self) -> int:
        """Outputs side by side in an array; at least 1, even if the columns of that one need several arrays."""
        return max(1, (self.columns - self.reference_columns) // self.weight_columns)

    @property
    def sides(self) -> int:
        """Arrays that a group's outputs need side by side."""
        return -(-self.outputs // self.outputs_per_array)

    @property
    def groups_per_array(self) -> int:
        """Groups along the diagonal of one array."""
        if self.n_parts > 1 or self.sides > 1:
            return 1
        return max(1, min(self.rows // self.n_rows, self.outputs_per_array // self.outputs))

    @property
    def fits(self) -> bool:
        """Whether the columns of one output fit into an array."""
        return self.weight_columns + self.reference_columns <= self.columns

    @property
    def wide(self) -> int:
        """Arrays that the columns of one output need; 1 if they fit."""
        return -(-(self.weight_columns + self.reference_columns) // self.columns)

    @property
    def n_arrays(self) -> int:
        return -(-self.groups // self.groups_per_array) * self.n_parts * self.sides * self.wide

    @property
    def n_cells(self) -> int:
        """Cells in use, those of reference columns included."""
        columns = self.outputs * self.weight_columns + self.sides * self.reference_columns
        return self.groups * self.n_rows * columns

    @property
    def utilisation(self) -> float:
        """Fraction of the arrays' cells that are in use."""
        return self.n_cells / (self.n_arrays * self.rows * self.columns)


def tiling(
    rows: int, columns: int, weight: Sequence[int], groups: int, weight_columns: int, reference_columns: int
) -> Tiling:
    """Splits a layer's weight ``[C_out, C_in/groups, *kernel]`` over arrays.

    Args:
        rows, columns: size of an array, in cells.
        weight: shape of the weight.
        groups: groups of a convolution; 1 otherwise.
        weight_columns, reference_columns: see :class:`Tiling`.
    """
    outputs, channels, *kernel = weight
    taps = math.prod(kernel)
    return Tiling(rows, columns, groups, outputs // groups, channels, taps, weight_columns, reference_columns)


def _even(length: int, most: int) -> list[tuple[int, int]]:
    """Splits a length into the fewest pieces of at most ``most``, as even as possible."""
    pieces = -(-length // most)
    size = -(-length // max(pieces, 1))
    return [(start, min(start + size, length)) for start in range(0, length, size)]
