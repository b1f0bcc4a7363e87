"""Where each weight lies in a layer's arrays, and the arrays as matrices of conductances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hwaware.hardware.crossbar.tiling import Tiling


class Places(NamedTuple):
    """Places of a layer's weights, as integers that broadcast to ``[groups, outputs, rows]``.

    The first columns of an array are its reference columns. The columns of its outputs follow: for each output one
    column per cell of a weight.

    Attributes:
        array: index of the array.
        row: row in the array.
        column: first of the output's columns in the array.
    """

    array: Tensor
    row: Tensor
    column: Tensor


def places(tiling: Tiling) -> Places:
    """Places of the weights of a layer whose outputs fit into arrays (``tiling.fits``).

    The arrays of a group are numbered by row part, then by outputs side by side.
    """
    n_rows = torch.tensor([part.n_rows for part in tiling.parts])
    part = torch.arange(len(n_rows)).repeat_interleave(n_rows)
    row = torch.arange(len(part)) - (n_rows.cumsum(0) - n_rows)[part]
    group, output = torch.arange(tiling.groups).view(-1, 1, 1), torch.arange(tiling.outputs).view(-1, 1)
    block, slot = group // tiling.groups_per_array, group % tiling.groups_per_array
    side, within = output // tiling.outputs_per_array, output % tiling.outputs_per_array
    return Places(
        array=(block * len(n_rows) + part) * tiling.sides + side,
        row=row + slot * int(n_rows[0]),
        column=(slot * tiling.outputs + within) * tiling.weight_columns + tiling.reference_columns,
    )


def changed(
    tiling: Tiling, cells: Sequence[Tensor], reference: Sequence[Tensor], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Applies a function of whole arrays to a layer's conductances.

    Args:
        tiling: the layer's tiling.
        cells: conductances (µS), one tensor of the weight's shape for each cell of a weight.
        reference: conductances (µS) of reference cells, ``[groups, sides, rows]`` for each reference column of an
            array.
        change: function from conductances ``[arrays, rows, columns]`` to the same shape; unused cells have 0 µS.

    Returns:
        The changed ``cells`` and ``reference``.
    """
    found = places(tiling)
    rows, columns = (int(one.max()) + 1 for one in (found.row, found.column + tiling.weight_columns - 1))
    arrays = cells[0].new_zeros(tiling.n_arrays, rows, columns)
    form = (tiling.groups, tiling.outputs, -1)
    for index, g in enumerate(cells):
        arrays[found.array, found.row, found.column + index] = g.reshape(form)
    firsts = slice(None, None, tiling.outputs_per_array)  # the first output of each array side by side
    at = found.array[:, firsts], found.row
    for index, g in enumerate(reference):
        arrays[(*at, index)] = g
    arrays = change(arrays)
    seen = (arrays[found.array, found.row, found.column + index] for index in range(len(cells)))
    return tuple(g.reshape(cells[0].shape) for g in seen), tuple(arrays[(*at, k)] for k in range(len(reference)))
