"""What each row and each column of a layer's arrays holds: the inverse of :mod:`hwaware.hardware.crossbar.places`.

The tables have one entry for each row and column, so they grow with an array's edges, not with its cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hwaware.hardware.crossbar.tiling import Tiling


class Contents(NamedTuple):
    """Contents of a layer's arrays, int32; -1 marks an unused row or column.

    A cell in use lies where a row and a column of the same group cross, and where any row crosses a reference column.

    Attributes:
        rows: ``[arrays, rows, 2]``: the input channel that drives the row, and the tap of the kernel.
        columns: ``[arrays, columns, 3]``: the layer's output, the index of the cell in its weight, and the index among
            parallel cells. A reference column has output -1 and, as cell index, the number of cells per weight.
    """

    rows: Tensor
    columns: Tensor


def counts(tiling: Tiling) -> tuple[int, int, int, int]:
    """Number of arrays along each axis: blocks of groups, row parts, outputs side by side, continued columns.

    Arrays are numbered with the last axis running fastest.
    """
    wide = -(-(tiling.weight_columns + tiling.reference_columns) // tiling.columns)
    return -(-tiling.groups // tiling.groups_per_array), len(tiling.parts), tiling.sides, wide


def contents(tiling: Tiling, parallel: int) -> Contents:
    """Contents of all rows and columns in use; arrays that use fewer are padded with -1.

    Where an array has fewer columns than one output needs, the columns continue in the next array.

    Args:
        tiling: the layer's tiling.
        parallel: parallel cells for each cell of a weight.
    """
    number = counts(tiling)
    slots = min(tiling.groups_per_array, tiling.groups)
    block, part, side, wide = torch.meshgrid(*map(torch.arange, number), indexing="ij")
    block, part, side, wide = (one.reshape(-1, 1) for one in (block, part, side, wide))

    n_rows = torch.tensor([one.n_rows for one in tiling.parts])
    row = torch.arange(slots * int(n_rows.max()))
    within = row % n_rows[0] if slots > 1 else row
    group = block * tiling.groups_per_array + (row // n_rows[0] if slots > 1 else 0)
    last = tiling.parts[-1]
    channels, taps = last.channels[1], last.taps[1]
    place = (n_rows.cumsum(0) - n_rows)[part] + within
    rows = torch.stack([group * channels + place // taps, place % taps], -1)
    rows = rows.where(((group < tiling.groups) & (within < n_rows[part])).unsqueeze(-1), -1)

    per_slot = tiling.outputs if slots > 1 else tiling.outputs_per_array
    used = tiling.reference_columns + tiling.weight_columns * slots * min(per_slot, tiling.outputs)
    column = wide * tiling.columns + torch.arange(min(used, tiling.columns))
    weight = column - tiling.reference_columns
    slot, output = weight // tiling.weight_columns // per_slot, weight // tiling.weight_columns % per_slot
    group, output = block * tiling.groups_per_array + slot, side * tiling.outputs_per_array + output
    cell, copy = weight % tiling.weight_columns // parallel, weight % parallel
    columns = torch.stack([group * tiling.outputs + output, cell, copy], -1)
    there = (column < used) & (group < tiling.groups) & (output < tiling.outputs)
    columns = columns.where(there.unsqueeze(-1), -1)
    no_output, after_last = (torch.full_like(column, one) for one in (-1, tiling.weight_columns // parallel))
    columns = torch.where((weight < 0).unsqueeze(-1), torch.stack([no_output, after_last, column], -1), columns)
    return Contents(rows.int(), columns.int())
