"""Number formats: the values between -s and s that a weight can take.

Latent weights stay continuous. The gradient ignores the rounding (straight-through estimator; Bengio et al., arXiv
1308.3432).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor

from hwaware.errors import UserError, nearest

#: Most bits of a weight: the table of training noise has one entry per code.
_MOST_BITS = 11

#: Tolerance between r and a level, in levels: as many digits as people type.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class NumberFormat(ABC):
    """Base class of number formats.

    Attributes:
        is_fixed_point: whether values are two's complement codes, which lack the largest value +1.
    """

    is_fixed_point: ClassVar[bool]

    @abstractmethod
    def steps(self, range_fraction: float) -> int:
        """Grid steps between zero and the largest weight, at the window position r; 0 without a grid."""

    @abstractmethod
    def check(self, range_fraction: float) -> None:
        """Raises UserError if the largest weight is not on the grid."""

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Continuous(NumberFormat):
    """Any value."""

    is_fixed_point: ClassVar[bool] = False

    def steps(self, range_fraction: float) -> int:
        return 0

    def check(self, range_fraction: float) -> None:
        pass

    def __str__(self) -> str:
        return "continuous"


@dataclass(frozen=True)
class Levels(NumberFormat):
    """L evenly spaced window positions, ``v_k = -1 + 2k/(L - 1)``, both ends of the window included.

    L is odd, so that zero is a level: a weight of zero stays zero. L counts the levels of a *weight*, not the states of
    a cell. With ``offset``, the cell needs L states; with ``differential``, each cell of the pair needs ``(L + 1)/2``,
    the idle state included; with ``differential_symmetric``, each needs L. Weights of b bits have L = 2^b - 1.

    Attributes:
        levels: L; 0 if ``cell_levels`` is given and the mapping is not known yet.
        cell_levels: states of a cell, as an alternative to ``levels``: 8 for 3-bit cells, which give 15 levels in
            ``differential``. It is not compared: two formats with the same ``levels`` are equal.

    Raises:
        UserError: a number is out of range.
    """

    is_fixed_point: ClassVar[bool] = False

    levels: int = 0
    cell_levels: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.cell_levels is not None and (type(self.cell_levels) is not int or self.cell_levels < 2):
            raise UserError(f"cell_levels={self.cell_levels} must be a whole number of at least 2 (8 for 3 bits).")
        if self.cell_levels is not None and not self.levels:
            return
        if type(self.levels) is not int or self.levels < 3 or self.levels % 2 == 0:
            raise UserError(
                f"levels={self.levels} must be an odd whole number of at least 3, so that zero is a level "
                "(15 for 4 bits)."
            )

    def steps(self, range_fraction: float) -> int:
        return round(range_fraction * (self.levels - 1) / 2)

    def check(self, range_fraction: float) -> None:
        half = (self.levels - 1) // 2
        if abs(range_fraction * half - round(range_fraction * half)) > _TOLERANCE:
            nearest_one = max(1, round(range_fraction * half)) / half
            raise UserError(
                f"range_fraction={range_fraction} is not one of the {self.levels} levels, so the largest weight "
                f"could not be written: the nearest is {nearest_one:.7g}."
            )

    def __str__(self) -> str:
        return f"{self.levels} levels"


@dataclass(frozen=True)
class Codes(NumberFormat):
    """Fixed-point codes, split into digits that are each the state of one cell, the most significant first.

    A weight of b bits is an integer q ∈ [-2^(b-1), 2^(b-1) - 1] at the window position ``q / 2^(b-1)``. There is no +1,
    so weights are clipped at ``s·(1 - 2^(1 - b))``; with ``s = max|w|``, a positive largest weight loses one code.
    Cells hold the *shifted* code ``q + 2^(b-1)``, which is never negative. The shift adds the same amount to every
    column and is subtracted digitally. Each digit to the base ``2^slice_bits`` is held by one cell, as in ISAAC
    (Shafiee et al., ISCA 2016) and PUMA (Ankit et al., ASPLOS 2019).

    Attributes:
        bits: bits of a weight.
        slice_bits: bits of a cell.
        fraction_bits: fractional bits of the ``bits``; they set the scale ``fixed``: ``s = 2^(bits - 1 -
            fraction_bits)``.

    Raises:
        UserError: a number is out of range, or ``slice_bits`` does not divide ``bits``.
    """

    is_fixed_point: ClassVar[bool] = True

    bits: int = 8
    slice_bits: int = 2
    fraction_bits: int | None = None

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 2 <= self.bits <= _MOST_BITS:
            raise UserError(f"bits={self.bits} of a weight must be a whole number from 2 to {_MOST_BITS}; 8 is usual.")
        divisors = [n for n in range(1, self.bits + 1) if self.bits % n == 0]
        if type(self.slice_bits) is not int or self.slice_bits not in divisors:
            raise UserError(
                f"slices of slice_bits={self.slice_bits} do not divide bits={self.bits}: give one of {divisors}."
            )
        if self.fraction_bits is not None and not (type(self.fraction_bits) is int and 0 <= self.fraction_bits <= 24):
            raise UserError(f"fraction_bits={self.fraction_bits} must be a whole number from 0 to 24.")

    def steps(self, range_fraction: float = 1.0) -> int:
        return self.zero

    def check(self, range_fraction: float) -> None:
        if range_fraction != 1:
            raise UserError(f"range_fraction={range_fraction} must be 1.0: digits use the whole window.")

    @property
    def zero(self) -> int:
        """The shifted code of zero, which is also the number of codes below zero."""
        return 2 ** (self.bits - 1)

    @property
    def scale(self) -> float | None:
        """The scale s set by the fractional bits; None without them."""
        return None if self.fraction_bits is None else 2.0 ** (self.bits - 1 - self.fraction_bits)

    @property
    def n_slices(self) -> int:
        """Digits of a code, and cells of a weight."""
        return self.bits // self.slice_bits

    @property
    def n_states(self) -> int:
        """Values of a digit, and states of a cell."""
        return 2**self.slice_bits

    def codes(self, v: Tensor) -> Tensor:
        """Shifted codes of window positions, int64 in ``[0, 2^bits)``."""
        return (v.detach() * self.zero).round_().clamp_(-self.zero, self.zero - 1).long() + self.zero

    def positions(self, codes: Tensor) -> Tensor:
        """Window positions of shifted codes, in single precision."""
        return (codes - self.zero).float() / self.zero

    def digits(self, codes: Tensor) -> tuple[Tensor, ...]:
        """The states of each code's cells, the most significant first."""
        base = self.n_states
        return tuple(codes.div(base**k, rounding_mode="floor") % base for k in reversed(range(self.n_slices)))

    def __str__(self) -> str:
        return f"{self.bits} bits in {self.slice_bits}-bit slices"


#: Formats by the keys that identify them in a recipe.
_KINDS: tuple[type[Levels] | type[Codes], ...] = (Levels, Codes)


def number_format(words: Mapping[str, Any]) -> NumberFormat:
    """Builds a format from the settings of a recipe: ``{}``, ``{levels: 15}``, ``{cell_levels: 8}``, ``{bits: 8}``.

    Raises:
        UserError: a key is unknown, keys do not go together, or a value is out of range.
    """
    if not words:
        return Continuous()
    if not isinstance(words, Mapping):
        raise UserError(
            f"encoding.format {words!r} is not a table of keys and values: give {{levels: 15}} or "
            "{bits: 8, slice_bits: 2}."
        )
    known = {field.name: kind for kind in _KINDS for field in fields(kind)}
    for word in words:
        if word not in known:
            raise UserError(f"encoding.format has no '{word}'. {nearest(word, known)}")
    kinds = {known[word] for word in words}
    if len(kinds) > 1:
        raise UserError(f"encoding.format: {' and '.join(words)} exclude each other: levels, or bits of codes.")
    if len(words) > 1 and kinds == {Levels}:
        raise UserError(f"encoding.format: {' and '.join(words)} exclude each other: levels of a weight, or of a cell.")
    whole = {key: int(one) if isinstance(one, float) and one.is_integer() else one for key, one in words.items()}
    return kinds.pop()(**whole)


def format_words(form: NumberFormat) -> dict[str, int]:
    """The inverse of :func:`number_format`."""
    if isinstance(form, Levels) and form.cell_levels is not None:
        return {"cell_levels": form.cell_levels}
    return {name: value for name, value in asdict(form).items() if value is not None}


def quantise(u: Tensor, steps: int, fixed_point: bool = False) -> Tensor:
    """Rounds u to the nearest of ``2·steps + 1`` values on [-1, 1]; the gradient ignores the rounding.

    With ``fixed_point``, the largest value is missing, and larger values are clipped.
    """
    levels = (u.detach() * steps).round_()
    levels = (levels.clamp_(-steps, steps - 1) if fixed_point else levels).div_(steps)
    return u + (levels - u.detach()) if u.requires_grad else levels
