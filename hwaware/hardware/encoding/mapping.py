"""Mappings: how memory cells hold a weight's position in the conductance window.

A window position ``v ∈ [-1, 1]`` uses the full window at ``|v| = 1``. It is never rescaled to the values that occur in
a tensor. Encoding gives target conductances (µS); decoding computes a position from the actual conductances.
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
        name: name in recipes and results; custom mappings are known by their path, ``module.NAME``.
        cells_per_weight: memory cells for one weight.
        encode: ``(v, g_min_us, g_max_us) -> (g_us, ...)``, one tensor of v's shape per cell.
        decode: ``((g_us, ...), g_min_us, g_max_us) -> v``, linear in the conductances. The reference's conductance, if
            there is one, comes after those of the weight's own cells.
        gains: for each of these conductances, the change of v when it grows by the whole window.
        reference: whether each crossbar has a column of cells at mid-window that is subtracted from all others.

    Raises:
        UserError: the number of gains is wrong.
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
        # The same, read against a column of mid-window cells, which drift too; an exact reference if none is given.
        Mapping("offset_reference", 1, _encode_offset, _decode_offset_reference, (2, -2), reference=True),
        # A pair, one cell of which idles at g_min.
        Mapping("differential", 2, _encode_differential, _decode_pair, (1, -1)),
        # A pair with a constant sum, both about mid-window.
        Mapping("differential_symmetric", 2, _encode_differential_symmetric, _decode_pair, (1, -1)),
    )
}

#: The mapping whose cells hold the digits of a code; it has parameters, so :func:`bit_sliced` builds it.
BIT_SLICED = "bit_sliced"

#: Names of this package's mappings.
MAPPING_NAMES = (*MAPPINGS, BIT_SLICED)

#: Imported custom mappings, by ``module.NAME``.
_OWN: dict[str, Mapping] = {}


def mapping_of(name: str) -> Mapping:
    """Looks up a mapping: one of :data:`MAPPINGS`, or a custom one that :func:`import_mapping` has imported.

    Raises:
        UserError: the name is unknown.
    """
    known = {**MAPPINGS, **_OWN}
    if name not in known:
        hint = "Import it first (hwaware.hardware.import_mapping)." if "." in name else nearest(name, MAPPING_NAMES)
        raise UserError(f"mapping '{name}' is unknown. {hint}")
    return known[name]


def import_mapping(path: str) -> Mapping:
    """Imports a custom mapping by its path ``module.NAME``; encodings can use that path from then on.

    Only for paths that a user gives: a downloaded file could name any module, so its paths are never imported.

    Raises:
        UserError: there is no such module, or it has no such mapping.
    """
    module, _, name = path.rpartition(".")
    try:
        imported = import_module(module)
    except (ImportError, TypeError, ValueError) as error:  # the last two: the path names no module
        raise UserError(f"mapping '{path}' can't be imported: {error}.") from None
    found = getattr(imported, name, None)
    if not isinstance(found, Mapping):
        there = [key for key, one in vars(imported).items() if isinstance(one, Mapping)]
        raise UserError(f"mapping '{path}': module '{module}' has no such mapping. {nearest(name, there)}".rstrip())
    _OWN[path] = found
    return found


def cell_levels(mapping: Mapping, levels: int) -> int:
    """States of a cell that are needed for ``levels`` evenly spaced levels of a weight over the whole window."""
    cells = mapping.encode(torch.linspace(-1, 1, levels, dtype=torch.float64), 0.0, 1.0)
    return max(len(g.mul(1e9).round().unique()) for g in cells)


def levels_of_cells(mapping: Mapping, states: int) -> int:
    """Levels of a weight whose cells have ``states`` states.

    Raises:
        UserError: no odd number of levels (so that zero is a level) needs exactly that many states.
    """
    makes = {levels: cell_levels(mapping, levels) for levels in (states, 2 * states - 1) if levels % 2}
    for levels, needed in makes.items():
        if levels >= 3 and needed == states:
            return levels
    others = [one for one in (states - 1, states + 1) if one >= 3 and cell_levels(mapping, one) == one]
    raise UserError(
        f"cell_levels={states}: with the mapping '{mapping.name}' such cells can't hold a weight of zero"
        + (f"; give {' or '.join(map(str, others))}, or a pair with an idle cell (differential)." if others else ".")
    )


@lru_cache
def bit_sliced(codes: Codes) -> Mapping:
    """One cell per digit of a weight's shifted code, most significant first; states are evenly spaced in the window.

    Digits are read in proportion to the conductance, ``d̂ = (n_states - 1)·(g - g_min)/(g_max - g_min)``, shifted and
    added, and the shift of the code is subtracted: ``v̂ = (Σ n_states^k·d̂_k - zero)/zero``. Encoding rounds a window
    position to the nearest code, so it has no derivative.
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
