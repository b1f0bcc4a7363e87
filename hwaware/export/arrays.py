"""A layer's arrays in a bundle: matrices of target conductances, and tables of the contents of rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hwaware.hardware import Hardware
from hwaware.hardware.crossbar.contents import Contents, contents, counts

#: Relative tolerance for the target of reference cells, which is stored in single precision.
_ROUNDING = 1e-4


class Layer(NamedTuple):
    """Hardware and shape of a layer.

    Attributes:
        hardware: the layer's hardware.
        shape: shape of its weight, ``[C_out, C_in/groups, *kernel]``.
        groups: groups of a convolution; 1 otherwise.
    """

    hardware: Hardware
    shape: tuple[int, ...]
    groups: int

    @property
    def n_taps(self) -> int:
        return math.prod(self.shape[2:])


def to_arrays(layer: Layer, cells: Sequence[Tensor]) -> tuple[list[int], Tensor, Contents]:
    """A layer's cells as arrays: their numbers, target conductances and contents.

    Args:
        layer: the layer.
        cells: target conductances (µS), one tensor of the weight's shape for each cell of a weight; parallel cells
            once.

    Returns:
        The numbers of arrays (see :func:`hwaware.hardware.crossbar.contents.counts`), the conductances ``[arrays, rows,
        columns]`` (µS; NaN: no cell), and the contents.
    """
    encoding = layer.hardware.encoding
    tiling = layer.hardware.tiling(layer.shape, layer.groups)
    held = contents(tiling, encoding.parallel)
    place, in_weight, in_reference = _places(layer, held)
    flat = torch.stack([g.float() for g in cells]).repeat_interleave(encoding.parallel, 0).flatten()
    arrays = flat[place.clamp_(0, len(flat) - 1)].where(in_weight, math.nan)
    arrays[in_reference] = encoding.reference_us(layer.hardware.device)
    return list(counts(tiling)), arrays, held


def from_arrays(layer: Layer, number: Sequence[int], arrays: Tensor, held: Contents) -> tuple[Tensor, ...]:
    """Target conductances (µS), one tensor of the weight's shape per cell of a weight. The inverse of ``to_arrays``.

    The layer may be split in any way, as long as the arrays contain each cell once.

    Raises:
        ValueError: they do not, or the arrays are invalid.
    """
    encoding, device = layer.hardware.encoding, layer.hardware.device
    _check_form(layer, number, arrays, held)
    n_cells = encoding.cells_per_weight * math.prod(layer.shape)
    if n_cells > arrays.numel():  # before anything of this size is allocated
        raise ValueError(f"{arrays.numel()} cells are too few for {n_cells}")
    _check_contents(layer, number, held)
    place, in_weight, in_reference = _places(layer, held)
    if not torch.equal(arrays.isnan(), ~(in_weight | in_reference)):
        raise ValueError("conductances are not where rows and columns say that cells are")
    if (there := int(in_weight.sum())) != n_cells:
        raise ValueError(f"{there} cells hold weights, which have {n_cells}")
    found = torch.full((n_cells,), math.nan)
    found[place[in_weight]] = arrays[in_weight].float()
    if found.isnan().any():
        raise ValueError("a cell of a weight is there twice, and another is missing")
    copies = found.view(-1, encoding.parallel, *layer.shape)
    if (copies != copies[:, :1]).any():
        raise ValueError("cells in parallel have different targets")
    wanted = encoding.reference_us(device)
    if ((arrays[in_reference] - wanted).abs() > _ROUNDING * wanted).any():
        raise ValueError(f"reference cells have other targets than {wanted:g} µS")
    return tuple(copies[:, 0])


def _places(layer: Layer, held: Contents) -> tuple[Tensor, Tensor, Tensor]:
    """For all ``[arrays, rows, columns]``: the flat index of the cell, whether it is a weight's, whether a reference's.

    The index counts the cells of a weight first (parallel cells next to each other), then the elements of the weight.
    """
    outputs, channels = layer.shape[:2]
    channel, tap = held.rows.long().unbind(-1)
    output, cell, copy = held.columns.long().unbind(-1)
    row = channel % channels * layer.n_taps + tap
    column = ((cell * layer.hardware.encoding.parallel + copy) * outputs + output) * channels * layer.n_taps
    used = (channel >= 0).unsqueeze(2)
    one_group = (channel // channels).unsqueeze(2) == (output // (outputs // layer.groups)).unsqueeze(1)
    in_weight = used & one_group & (output >= 0).unsqueeze(1)
    in_reference = used & ((output < 0) & (cell >= 0)).unsqueeze(1)
    return row.unsqueeze(2) + column.unsqueeze(1), in_weight, in_reference


def _check_form(layer: Layer, number: Any, arrays: Tensor, held: Contents) -> None:
    crossbar = layer.hardware.crossbar
    sizes = (*number, *layer.shape, layer.groups)
    if any(type(size) is not int or size < 1 for size in sizes) or len(number) != 4 or len(layer.shape) < 2:
        raise ValueError(f"numbers of arrays {number}, a shape {layer.shape} or groups {layer.groups} can't be")
    if layer.shape[0] % layer.groups:
        raise ValueError(f"{layer.shape[0]} outputs are not {layer.groups} groups")
    if not arrays.is_floating_point() or any(table.dtype != torch.int32 for table in held):
        raise ValueError("conductances are floating-point numbers, and what rows and columns hold is int32")
    n_arrays, rows, columns = arrays.shape
    if n_arrays != math.prod(number):
        raise ValueError(f"there are {n_arrays} arrays, not {' x '.join(map(str, number))}")
    if rows > crossbar.rows or columns > crossbar.columns:
        raise ValueError(f"{rows} x {columns} cells are more than its arrays of {crossbar.rows} x {crossbar.columns}")
    if held.rows.shape != (n_arrays, rows, 2) or held.columns.shape != (n_arrays, columns, 3):
        raise ValueError("what rows and columns hold is of another number of them")


def _check_contents(layer: Layer, number: Sequence[int], held: Contents) -> None:
    encoding = layer.hardware.encoding
    n, parallel = encoding.layout.cells_per_weight, encoding.parallel
    channel, tap = held.rows.unbind(-1)
    output, cell, copy = held.columns.unbind(-1)
    within = (
        _in(channel, layer.shape[1] * layer.groups) & _in(tap, layer.n_taps) | (channel == -1) & (tap == -1),
        _in(output, layer.shape[0]) & _in(cell, n) & _in(copy, parallel)
        | (output == -1) & ((cell == n) & _in(copy, parallel) | (cell == -1) & (copy == -1)),
    )
    if not all(part.all() for part in within):
        raise ValueError("a row or a column holds what the layer does not have")
    # If the columns of one output continue in further arrays, the first one has the reference columns.
    of_reference = ((output == -1) & (cell == n)).view(-1, number[3] * output.shape[1])
    copies = copy.view_as(of_reference).where(of_reference, parallel).sort(1).values[:, : parallel + 1]
    wanted = torch.full_like(copies, parallel)
    if encoding.layout.reference:
        wanted[:, :parallel] = torch.arange(parallel)
    if not torch.equal(copies, wanted):
        raise ValueError("not each array has the reference columns that the mapping has")


def _in(values: Tensor, size: int) -> Tensor:
    return (values >= 0) & (values < size)
