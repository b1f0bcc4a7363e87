"""Parallel cells: each cell of a weight is present K times, with independent errors, and the K cells are read as one.

With ``mean`` their currents add up, as in multi-memristive synapses (Boybat et al., Nature Communications 9, 2514,
2018). With ``median`` the middle one counts, so a few stuck cells have no effect. A median is not a sum of currents:
the K cells must be read one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

COMBINATIONS = ("mean", "median")


def merged(cells: Sequence[Tensor], parallel: int, combine: str) -> tuple[Tensor, ...]:
    """Combines each ``parallel`` consecutive cells into one value.

    Args:
        cells: conductances (µS) of one shape: first all parallel cells of a weight's first cell, then of its second, ….
        parallel: K. The median of an even number is the mean of the middle two.
        combine: one of :data:`COMBINATIONS`.
    """
    if parallel == 1:
        return tuple(cells)
    groups = (cells[start : start + parallel] for start in range(0, len(cells), parallel))
    return tuple(_median(group) if combine == "median" else _mean(group) for group in groups)


def _mean(cells: Sequence[Tensor]) -> Tensor:
    total = cells[0].clone()
    for g in cells[1:]:
        total += g
    return total.mul_(1 / len(cells))


def _median(cells: Sequence[Tensor]) -> Tensor:
    ordered, middle = torch.stack(list(cells)).sort(dim=0).values, len(cells) // 2
    return ordered[middle] if len(cells) % 2 else (ordered[middle - 1] + ordered[middle]).mul_(0.5)


def remaining_std(parallel: int, combine: str) -> float:
    """Standard deviation of the combination of K independent standard Gaussians."""
    return _median_std(parallel) if combine == "median" else 1 / math.sqrt(parallel)


@lru_cache
def _median_std(n: int) -> float:
    """Standard deviation of the median of n standard Gaussians, by its density.

    With m = n//2, the density of the middle value (n odd) at z is ``∝ Φ^m·(1 - Φ)^m·φ``. The density of the mean of the
    middle two values z ∓ t (n even) is ``∝ ∫ Φ(z - t)^(m-1)·(1 - Φ(z + t))^(m-1)·φ(z - t)·φ(z + t) dt``.
    """
    z, m = torch.linspace(-8, 8, 1601, dtype=torch.float64), n // 2

    def log_parts(low: Tensor, high: Tensor, power: int) -> Tensor:
        tails = torch.special.log_ndtr(low) + torch.special.log_ndtr(-high)
        return power * tails - (low.square() + high.square()) / 4

    if n % 2:
        logs = log_parts(z, z, m)
    else:
        t = torch.linspace(0, 8, 801, dtype=torch.float64)[:, None]
        logs = (log_parts(z - t, z + t, m - 1) - ((z - t).square() + (z + t).square()) / 4).logsumexp(0)
    density = logs.softmax(0)
    return math.sqrt((density * z.square()).sum().item())
