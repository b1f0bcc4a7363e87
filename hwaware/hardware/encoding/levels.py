"""Programmable levels: a written weight takes one of a few window positions.

A device with ``levels`` = L has the window positions ``v_k = -1 + 2k/(L - 1)``, k = 0 … L - 1, evenly spaced over the
whole window, both ends included. L is odd, so that zero is one of them: a weight of zero stays zero. It counts levels
of a *weight*, not of a cell: one cell (``offset``) has a state for each; in ``differential`` each cell of the pair has
``(L + 1)/2``, of which idle is one; in ``differential_symmetric`` each has L. Weights of b bits have L = 2^b - 1.

Latent weights stay continuous, and the gradient passes as if there were no levels (straight-through; Bengio et al.,
arXiv 1308.3432).
"""

from __future__ import annotations

from torch import Tensor

from hwaware.errors import UserError

#: How far r may be off a level, in levels: as many digits as people type.
_TOLERANCE = 1e-5


def quantise(u: Tensor, steps: int, codes: bool = False) -> Tensor:
    """The nearest of the ``2·steps + 1`` levels on [-1, 1] for each value; the gradient is that of ``u``.

    With ``codes`` those of fixed-point numbers (:mod:`hwaware.hardware.encoding.slices`), which lack the largest;
    values beyond are clipped.
    """
    levels = (u.detach() * steps).round_()
    levels = (levels.clamp_(-steps, steps - 1) if codes else levels).div_(steps)
    return u + (levels - u.detach()) if u.requires_grad else levels


def steps_in_use(levels: int | None, range_fraction: float) -> int:
    """Levels between zero and the largest weight, which lies at the window position r; 0 where they are continuous."""
    return 0 if levels is None else round(range_fraction * (levels - 1) / 2)


def check_levels(levels: int | None, range_fraction: float) -> None:
    """Raises UserError for a number of levels that can't be, or where the largest weight lies on none of them."""
    if levels is None:
        return
    if not isinstance(levels, int) or levels < 3 or levels % 2 == 0:
        raise UserError(
            f"levels={levels} must be an odd whole number of at least 3, so that zero is a level (15 for 4 bits)."
        )
    half = (levels - 1) // 2
    if abs(range_fraction * half - round(range_fraction * half)) > _TOLERANCE:
        nearest = max(1, round(range_fraction * half)) / half
        raise UserError(
            f"range_fraction={range_fraction} is none of the {levels} levels, so that the largest weight could not be "
            f"written: the nearest is {nearest:.7g}."
        )
