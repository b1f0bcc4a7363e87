"""Mappings: how a weight's position in the conductance window is held by memory cells.

A window position ``v ∈ [-1, 1]`` uses the full window at ``|v| = 1``; it is never rescaled to the values that happen to
occur. Encoding gives the target conductances (µS); decoding reads a position back from the conductances that the cells
really have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module

import torch
from torch import Tensor

from hwaware.errors import UserError, nearest
from hwaware.hardware.encoding.formats import Codes


@dataclass(frozen=True)
class Mapping:
    """One way of holding a signed number in unsigned conductances.

    Attributes:
        name: in recipes and results; of one's own it is known by its path, ``module.NAME``.
        cells_per_weight: memory cells for one weight.
        encode: ``(v, g_min_us, g_max_us) -> (g_us, ...)``, one tensor of v's shape per cell.
        decode: ``((g_us, ...), g_min_us, g_max_us) -> v``; after a weight's own cells the reference's, if there is one.
            Linear in the conductances.
        gains: by how much v grows when one of these conductances grows by the whole window.
        reference: whether each crossbar has a column of cells at mid-window, which is subtracted from all others.
    """

    name: str
    cells_per_weight: int
    encode: Callable[[Tensor, float, float], tuple[Tensor, ...]]
    decode: Callable[[tuple[Tensor, ...], float, float], Tensor]
    gains: tuple[float, ...]
    reference: bool = False

    def __post_init__(self) -> None:
        if len(self.gains) != self.cells_per_weight + self.reference:
            raise UserError(
                f"mapping '{self.name}' has {len(self.gains)} gains: give one for each of its {self.cells_per_weight} "
                f"cells{', and one for the reference' * self.reference}."
            )


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
        Mapping("offset", 1, _encode_offset, _decode_offset, (2,)),
        # The same, read against a column of mid-window cells, which drift too; exact where they are not given.
        Mapping("offset_reference", 1, _encode_offset, _decode_offset_reference, (2, -2), reference=True),
        # A pair of which one cell idles at g_min.
        Mapping("differential", 2, _encode_differential, _decode_pair, (1, -1)),
        # A pair with a constant sum, both about mid-window.
        Mapping("differential_symmetric", 2, _encode_differential_symmetric, _decode_pair, (1, -1)),
    )
}

#: The mapping whose cells hold the digits of a code; it has parameters, and so is made by :func:`bit_sliced`.
BIT_SLICED = "bit_sliced"

#: Mappings of this package by name.
MAPPING_NAMES = (*MAPPINGS, BIT_SLICED)

#: Those of other modules that were imported, by ``module.NAME``.
_OWN: dict[str, Mapping] = {}


def mapping_of(name: str) -> Mapping:
    """A mapping by its name: one of :data:`MAPPINGS`, or one of one's own that :func:`import_mapping` found.

    Raises:
        UserError: there is none.
    """
    known = {**MAPPINGS, **_OWN}
    if name not in known:
        hint = "Import it first (hwaware.hardware.import_mapping)." if "." in name else nearest(name, MAPPING_NAMES)
        raise UserError(f"mapping '{name}' is unknown. {hint}")
    return known[name]


def import_mapping(path: str) -> Mapping:
    """A mapping of one's own, by ``module.NAME``; encodings know it by that path from then on.

    Only for what a user names: a downloaded file may name anything, and is never followed.

    Raises:
        UserError: there is no such module, or it has no such mapping.
    """
    module, _, name = path.rpartition(".")
    try:
        imported = import_module(module)
    except (ImportError, TypeError, ValueError) as error:  # the latter two: a path that names no module
        raise UserError(f"mapping '{path}' can't be imported: {error}.") from None
    found = getattr(imported, name, None)
    if not isinstance(found, Mapping):
        there = [key for key, one in vars(imported).items() if isinstance(one, Mapping)]
        raise UserError(f"mapping '{path}': module '{module}' has no such mapping. {nearest(name, there)}".rstrip())
    _OWN[path] = found
    return found


def cell_levels(mapping: Mapping, levels: int) -> int:
    """States of a cell that even levels of a weight over the whole window need."""
    cells = mapping.encode(torch.linspace(-1, 1, levels, dtype=torch.float64), 0.0, 1.0)
    return max(len(g.mul(1e9).round().unique()) for g in cells)


def levels_of_cells(mapping: Mapping, states: int) -> int:
    """Levels of a weight whose cells have so many states.

    Raises:
        UserError: no odd number of levels, of which zero is one, needs just these.
    """
    makes = {levels: cell_levels(mapping, levels) for levels in (states, 2 * states - 1) if levels % 2}
    for levels, needed in makes.items():
        if levels >= 3 and needed == states:
            return levels
    others = [one for one in (states - 1, states + 1) if one >= 3 and cell_levels(mapping, one) == one]
    raise UserError(
        f"cell_levels={states}: with the mapping '{mapping.name}' no weight of zero is among what such cells hold"
        + (f"; give {' or '.join(map(str, others))}, or a pair with an idle cell (differential)." if others else ".")
    )


@lru_cache
def bit_sliced(codes: Codes) -> Mapping:
    """One cell for each digit of a weight's shifted code, the most significant first; states are even over the window.

    Digits are read as they conduct, ``d̂ = (n_states - 1)·(g - g_min)/(g_max - g_min)``, shifted and added, and the
    shift of the code is taken off: ``v̂ = (Σ n_states^k·d̂_k - zero)/zero``. A window position is held as the nearest
    that a code has, so that encoding has no derivative.
    """
    highest = codes.n_states - 1
    gains = tuple(codes.n_states**k * highest / codes.zero for k in reversed(range(codes.n_slices)))

    def encode(v: Tensor, g_min: float, g_max: float) -> tuple[Tensor, ...]:
        digits = codes.digits(codes.codes(v))
        return tuple(digit.to(v.dtype).mul_((g_max - g_min) / highest).add_(g_min) for digit in digits)

    def decode(cells: tuple[Tensor, ...], g_min: float, g_max: float) -> Tensor:
        first, *others = ((g - g_min).mul_(gain / (g_max - g_min)) for g, gain in zip(cells, gains, strict=True))
        return sum(others, start=first - 1.0)

    return Mapping(BIT_SLICED, codes.n_slices, encode, decode, gains)
