"""Mean targets: target conductances chosen so that the *expected* weight equals the wanted one.

A cell that idles at the end of the window can only err upwards, and drift has a mean, so the weight that is read is
biased. Shifting the target the other way removes the bias at one age, or on average over several. Optimised weight
programming (Mackin et al., Nature Communications 13, 3765, 2022) searches for such targets; here the expected value has
a closed form.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Window positions in the table of expected values; odd, so that the kink of a differential pair at 0 is one of them.
SIZE = 4097


def inverse(expected: Callable[[Tensor], Tensor], wanted: Callable[[Tensor], Tensor]) -> Tensor:
    """Table of the window positions to write so that the wanted values are read on average.

    Args:
        expected: the expected value that is read for each written position.
        wanted: the value that should be read for each position.

    Returns:
        Positions to write, float64 ``[SIZE]``, for :data:`SIZE` evenly spaced positions on [-1, 1]. The nearest end of
        the window where the wanted value can't be reached.
    """
    v = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    return _where(expected(v), wanted(v))


def looked_up(table: Tensor, v: Tensor) -> Tensor:
    """Interpolates a table over evenly spaced positions on [-1, 1], such as :func:`inverse`, linearly at ``v``.

    Differentiable in ``v``.
    """
    last = len(table) - 1
    place = (v.clamp(-1, 1) + 1) * (last / 2)
    below = place.detach().floor().clamp_(0, last - 1)
    index, table = below.long(), table.to(v)
    return torch.lerp(table[index], table[index + 1], place - below)


def reverse_looked_up(table: Tensor, written: Tensor) -> Tensor:
    """Inverts :func:`looked_up`: the positions for which ``written`` was looked up in a table of :func:`inverse`."""
    return _where(table, written.double())


def _where(values: Tensor, goal: Tensor) -> Tensor:
    """Positions at which a tabulated function on [-1, 1] takes the values of ``goal``, or the nearest end."""
    v = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    rising = values.cummax(0).values  # already monotone unless noise is as large as the window
    above = torch.searchsorted(rising, goal.contiguous()).clamp(1, SIZE - 1)
    low, high = rising[above - 1], rising[above]
    share = ((goal - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return torch.lerp(v[above - 1], v[above], share)
