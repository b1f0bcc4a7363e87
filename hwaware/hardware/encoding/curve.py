"""The cell's non-linear current, and the range-shrunk sinh transform that pre-distorts weights for it.

The current of a cell is non-linear in its state with strength ``κ = V_read / V_0`` (the sinh of the Stanford/ASU ReRAM
model). With the share ``r`` of the window in use, a latent weight at ``u = w/s`` is realised as
``f(u) = sinh(rκu) / sinh(rκ)`` of the scale. A reconstruction of the transform of "ReRAM-aware Model Finetuning
addressing I-V Non-linearity and Retention Errors" (arXiv 2606.17471), whose text is not public. ``curve`` stands for
``rκ``; 0 is the linear cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def effective(u: Tensor, curve: float) -> Tensor:
    """Effective normalised weight ``f(u)`` of a latent one; both dimensionless, ``f(±1) = ±1``."""
    return torch.sinh(u * curve) / math.sinh(curve) if curve else u


def latent(u_effective: Tensor, curve: float) -> Tensor:
    """Latent normalised weight for a given effective one: ``f⁻¹``, an asinh."""
    return torch.asinh(u_effective * math.sinh(curve)) / curve if curve else u_effective


def realised(v: Tensor, kappa: float | None, range_fraction: float) -> Tensor:
    """Normalised weight realised by a cell at window position ``v``: ``sinh(κv) / sinh(rκ)``; linear cell: ``v/r``."""
    if kappa is None:
        return v / range_fraction
    # torch.sinh is not vectorised (18 ns per value on a CPU, this: 2 ns). Cancellation near 0 costs 1e-7/(rκ) of s.
    growth = (v * kappa).exp_()
    return growth.sub_(growth.reciprocal()).mul_(0.5 / math.sinh(range_fraction * kappa))


def bent_input(x: Tensor, x_max: float | Tensor, curve: float) -> Tensor:
    """Effective input if the current is a sinh of the voltage: ``sinh(rκ·x/x_max)·x_max/(rκ)``.

    This is the second place for the curve. The slope at 0 is 1, and ``curve`` is rκ of the voltage range.
    """
    growth = (x * (curve / x_max)).exp()  # torch.sinh is slow, see above
    return (growth - growth.reciprocal()) * (0.5 * x_max / curve)


def realised_slope(v: Tensor, kappa: float | None, range_fraction: float) -> Tensor:
    """Derivative of :func:`realised` with respect to ``v``: the amplification of errors of the window position."""
    if kappa is None:
        return torch.full_like(v, 1 / range_fraction)
    return torch.cosh(v * kappa) * (kappa / math.sinh(range_fraction * kappa))
