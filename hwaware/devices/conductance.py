"""Mappings: how a weight's position in the conductance window is held by one or two memory cells.

A window position ``v ∈ [-1, 1]`` uses the full window at ``|v| = 1``; it is never rescaled to the values that happen to
occur. Encoding gives the target conductances (µS); decoding reads a position back from the conductances that the cells
really have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Rows (inputs) and columns (outputs) of the largest crossbar.
CROSSBAR = 512


@dataclass(frozen=True)
class Mapping:
    """One way of holding a signed number in unsigned conductances.

    Attributes:
        name: the mapping's name in recipes and results.
        cells_per_weight: memory cells for one weight.
        encode: ``(v, g_min_us, g_max_us) -> (g_us, ...)``, one tensor of v's shape per cell.
        decode: ``((g_us, ...), g_min_us, g_max_us) -> v``; after a weight's own cells the reference's, if there is one.
        reference: whether each crossbar has a column of cells at mid-window, which is subtracted from all others.
    """

    name: str
    cells_per_weight: int
    encode: Callable[[Tensor, float, float], tuple[Tensor, ...]]
    decode: Callable[[tuple[Tensor, ...], float, float], Tensor]
    reference: bool = False

    def reference_shape(self, weight: torch.Size, groups: int) -> tuple[int, int, int]:
        """Groups, crossbars side by side, and rows: the reference cells of a layer, one per row and crossbar."""
        outputs = weight[0] // groups
        return groups, -(-outputs // CROSSBAR), weight[1:].numel()

    def n_cells(self, weight: torch.Size, groups: int) -> int:
        """Cells that hold a layer's weights, its reference columns included."""
        own = weight.numel() * self.cells_per_weight
        return own + (math.prod(self.reference_shape(weight, groups)) if self.reference else 0)


def _encode_offset(v: Tensor, g_min: float, g_max: float) -> tuple[Tensor]:
    return ((v * ((g_max - g_min) / 2)).add_((g_max + g_min) / 2),)


def _decode_offset(cells: tuple[Tensor, ...], g_min: float, g_max: float) -> Tensor:
    (g,) = cells
    return (g - (g_max + g_min) / 2).mul_(2 / (g_max - g_min))


def _decode_offset_reference(cells: tuple[Tensor, ...], g_min: float, g_max: float) -> Tensor:
    g, *reference = cells
    return (g - (reference[0] if reference else (g_max + g_min) / 2)).mul_(2 / (g_max - g_min))


def _encode_differential(v: Tensor, g_min: float, g_max: float) -> tuple[Tensor, Tensor]:
    above_idle = v * (g_max - g_min)
    return (g_min + above_idle).clamp_min(g_min), (g_min - above_idle).clamp_min(g_min)


def _encode_differential_symmetric(v: Tensor, g_min: float, g_max: float) -> tuple[Tensor, Tensor]:
    middle, half = (g_max + g_min) / 2, (g_max - g_min) / 2
    return (v * half).add_(middle), (v * -half).add_(middle)


def _decode_pair(cells: tuple[Tensor, ...], g_min: float, g_max: float) -> Tensor:
    positive, negative = cells
    return (positive - negative).mul_(1 / (g_max - g_min))


MAPPINGS = {
    mapping.name: mapping
    for mapping in (
        # One cell, symmetric about mid-window.
        Mapping("offset", 1, _encode_offset, _decode_offset),
        # The same, read against a column of mid-window cells, which drift too; exact where they are not given.
        Mapping("offset_reference", 1, _encode_offset, _decode_offset_reference, reference=True),
        # A pair of which one cell idles at g_min.
        Mapping("differential", 2, _encode_differential, _decode_pair),
        # A pair with a constant sum, both about mid-window.
        Mapping("differential_symmetric", 2, _encode_differential_symmetric, _decode_pair),
    )
}
