"""Mean targets: conductances chosen so that what cells are *expected* to be read as is the weight that is wanted.

A cell that idles at the window's end can only err upwards, and drift has a mean: what a weight is read as is biased. A
target that is off by as much the other way takes the bias away, at one age, or on average over several. So does
optimised weight programming (Mackin et al., Nature Communications 13, 3765, 2022), which has to search for it; here the
expected value is in closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Window positions at which expected values are tabulated: odd, so that the kink of a differential pair is one of them.
SIZE = 4097


def inverse(expected: Callable[[Tensor], Tensor], wanted: Callable[[Tensor], Tensor]) -> Tensor:
    """Window positions to write, so that positions are read as wanted, float64 ``[SIZE]``, for even positions.

    Args:
        expected: what a position is read as on average.
        wanted: what it is to be read as.

    Returns:
        For each of :data:`SIZE` even positions of [-1, 1] the one to write; the nearest end where none is far enough.
    """
    v = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    return _where(expected(v), wanted(v))


def looked_up(table: Tensor, v: Tensor) -> Tensor:
    """A function of even positions of [-1, 1], such as :func:`inverse`, at any; linear in between.

    Differentiable in ``v``.
    """
    last = len(table) - 1
    place = (v.clamp(-1, 1) + 1) * (last / 2)
    below = place.detach().floor().clamp_(0, last - 1)
    index, table = below.long(), table.to(v)
    return torch.lerp(table[index], table[index + 1], place - below)


def reverse_looked_up(table: Tensor, written: Tensor) -> Tensor:
    """The positions for which a table of :func:`inverse` has those that were written, float64."""
    return _where(table, written.double())


def _where(values: Tensor, goal: Tensor) -> Tensor:
    """Where a tabulated function of even positions of [-1, 1] has a value; the nearest end where it nowhere has."""
    v = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    rising = values.cummax(0).values  # it does anyhow, but where noise is as large as the window
    above = torch.searchsorted(rising, goal.contiguous()).clamp(1, SIZE - 1)
    low, high = rising[above - 1], rising[above]
    share = ((goal - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return torch.lerp(v[above - 1], v[above], share)
