"""Stuck cells: some stay at g_max (stuck on) and some at g_min (stuck off), whatever is written."""

from __future__ import annotations

from torch import Tensor


def stick(g_us: Tensor, uniform: Tensor, stuck_on: float, stuck_off: float, g_min_us: float, g_max_us: float) -> Tensor:
    """Sets stuck cells to g_max or g_min (µS), by each cell's own draw ``uniform`` ∈ [0, 1).

    The same draws give the same stuck cells at every age.
    """
    g_us = g_us.masked_fill(uniform < stuck_on, g_max_us)
    return g_us.masked_fill(uniform >= 1 - stuck_off, g_min_us)


def is_stuck(uniform: Tensor, stuck_on: float, stuck_off: float) -> Tensor:
    """Mask of the cells that :func:`stick` changes."""
    return (uniform < stuck_on) | (uniform >= 1 - stuck_off)
