"""Stuck cells: some conduct fully whatever was written (stuck on), some hardly at all (stuck off)."""

from __future__ import annotations

from torch import Tensor


def stick(g_us: Tensor, uniform: Tensor, stuck_on: float, stuck_off: float, g_min_us: float, g_max_us: float) -> Tensor:
    """Conductances (µS) with each cell stuck on at g_max or off at g_min by its own ``uniform`` ∈ [0, 1) draw.

    The same draws give the same stuck cells at every age.
    """
    g_us = g_us.masked_fill(uniform < stuck_on, g_max_us)
    return g_us.masked_fill(uniform >= 1 - stuck_off, g_min_us)


def is_stuck(uniform: Tensor, stuck_on: float, stuck_off: float) -> Tensor:
    """Which of the cells :func:`stick` changes."""
    return (uniform < stuck_on) | (uniform >= 1 - stuck_off)
