"""Bit slices: a fixed-point weight as digits, each of which is the state of one memory cell.

A weight of b bits is an integer q ∈ [-2^(b-1), 2^(b-1) - 1] at the window position ``q / 2^(b-1)``. Cells hold the
*shifted* code ``q + 2^(b-1)``, which is never negative; what that adds to every column is the same for all, and is
subtracted digitally. Its digits to the base ``2^slice_bits`` go to one cell each, as in ISAAC (Shafiee et al., ISCA
2016) and PUMA (Ankit et al., ASPLOS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hwaware.errors import UserError

#: Bits of a weight: each code is a position of its own in the table that training noise is read from.
_MOST_BITS = 11


@dataclass(frozen=True)
class BitSlices:
    """How a code is cut into digits, the most significant first.

    Attributes:
        bits: of a weight.
        slice_bits: of a cell.
    """

    bits: int = 8
    slice_bits: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= _MOST_BITS:
            raise UserError(f"bits={self.bits} of a weight must be a whole number from 2 to {_MOST_BITS}; 8 is usual.")
        divisors = [n for n in range(1, self.bits + 1) if self.bits % n == 0]
        if not isinstance(self.slice_bits, int) or self.slice_bits not in divisors:
            raise UserError(
                f"slices of slice_bits={self.slice_bits} do not divide bits={self.bits}: give one of {divisors}."
            )

    @property
    def n_slices(self) -> int:
        """Digits of a code, and cells of a weight."""
        return self.bits // self.slice_bits

    @property
    def n_states(self) -> int:
        """Values of a digit, and states of a cell."""
        return 2**self.slice_bits

    @property
    def steps(self) -> int:
        """Codes between the window positions -1 and 0, and the zero of the shifted code."""
        return 2 ** (self.bits - 1)

    def codes(self, v: Tensor) -> Tensor:
        """Shifted codes of window positions, int64 in ``[0, 2^bits)``."""
        return (v.detach() * self.steps).round_().clamp_(-self.steps, self.steps - 1).long() + self.steps

    def positions(self, codes: Tensor) -> Tensor:
        """Window positions of shifted codes, in single precision."""
        return (codes - self.steps).float() / self.steps

    def digits(self, codes: Tensor) -> tuple[Tensor, ...]:
        """The states of each code's cells, the most significant first."""
        base = self.n_states
        return tuple(codes.div(base**k, rounding_mode="floor") % base for k in reversed(range(self.n_slices)))
