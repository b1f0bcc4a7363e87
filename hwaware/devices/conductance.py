"""Mappings: how a weight's position in the conductance window is held by one or two memory cells.

A window position ``v ∈ [-1, 1]`` uses the full window at ``|v| = 1``; it is never rescaled to the values that happen to
occur. Encoding gives the target conductances (µS); decoding reads a position back from the conductances that the cells
really have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mapping:
    """One way of holding a signed number in unsigned conductances.

    Attributes:
        name: the mapping's name in recipes and results.
        cells_per_weight: memory cells for one weight.
        encode: ``(v, g_min_us, g_max_us) -> (g_us, ...)``, one tensor of v's shape per cell.
        decode: ``((g_us, ...), g_min_us, g_max_us) -> v``.
    """

    name: str
    cells_per_weight: int
    encode: Callable[[Tensor, float, float], tuple[Tensor, ...]]
    decode: Callable[[tuple[Tensor, ...], float, float], Tensor]


def _encode_offset(v: Tensor, g_min: float, g_max: float) -> tuple[Tensor]:
    return ((v * ((g_max - g_min) / 2)).add_((g_max + g_min) / 2),)


def _decode_offset(cells: tuple[Tensor, ...], g_min: float, g_max: float) -> Tensor:
    (g,) = cells
    return (g - (g_max + g_min) / 2).mul_(2 / (g_max - g_min))


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
        # A pair of which one cell idles at g_min.
        Mapping("differential", 2, _encode_differential, _decode_pair),
        # A pair with a constant sum, both about mid-window.
        Mapping("differential_symmetric", 2, _encode_differential_symmetric, _decode_pair),
    )
}
