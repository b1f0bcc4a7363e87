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
    """Latent normalised weight whose effective one is given: ``f⁻¹``, an asinh."""
    return torch.asinh(u_effective * math.sinh(curve)) / curve if curve else u_effective


def realised(v: Tensor, kappa: float | None, range_fraction: float) -> Tensor:
    """What a cell at window position ``v`` contributes, over the scale: ``sinh(κv) / sinh(rκ)``; linear: ``v/r``."""
    if kappa is None:
        return v / range_fraction
    # torch.sinh is not vectorised (18 ns a value on a CPU, this 2). What cancels about 0 is 1e-7/(rκ) of the scale.
    growth = (v * kappa).exp_()
    return growth.sub_(growth.reciprocal()).mul_(0.5 / math.sinh(range_fraction * kappa))


def bent_input(x: Tensor, x_max: float | Tensor, curve: float) -> Tensor:
    """What an input counts for where the current is a sinh of the voltage: ``sinh(rκ·x/x_max)·x_max/(rκ)``.

    The other place for the curve: of unit slope about 0, and with ``curve`` = rκ of the voltage range.
    """
    growth = (x * (curve / x_max)).exp()  # torch.sinh is slow, see above
    return (growth - growth.reciprocal()) * (0.5 * x_max / curve)


def realised_slope(v: Tensor, kappa: float | None, range_fraction: float) -> Tensor:
    """Derivative of :func:`realised` in ``v``: how much an error of the window position is amplified."""
    if kappa is None:
        return torch.full_like(v, 1 / range_fraction)
    return torch.cosh(v * kappa) * (kappa / math.sinh(range_fraction * kappa))
