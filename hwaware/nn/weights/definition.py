"""The weights of an analog layer in training, in plain torch: the reference for tests of the fast implementations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hwaware.hardware import Encoding
from hwaware.hardware.encoding import curve
from hwaware.hardware.encoding.scale import normalised

Law = Callable[[Tensor], Tensor]


def realise(latent: Tensor, encoding: Encoding, mean: Law, std: Law, error: Law, z: Tensor) -> tuple[Tensor, Tensor]:
    """Effective weights with noise, and their normalised expected error, in the precision of the latent weights.

    Args:
        latent: latent weights ``[C_out, ...]``.
        encoding: encoding of the weights.
        mean, std: mean and standard deviation of ``(ŵ - w_eff)/s`` as functions of u, which they round themselves.
            They are constants in the backward pass.
        error: ``E[((ŵ - w_eff)/s)²]`` as a function of u, with a gradient.
        z: standard Gaussians of the latents' shape.

    Returns:
        ``s·(f(u) + mean(u) + std(u)·z)`` with ``s = max|w|``, ``u = w/s`` and ``f(u) = sinh(rκu)/sinh(rκ)`` of the
        rounded u; and ``Σ s²·error(u) / Σ (s·f(u))²``, 0-dim. Gradients are those of f without rounding.
    """
    s = encoding.scaling.of(latent).to(latent)
    u = normalised(latent, s)
    f = curve.effective(u, encoding.curve)
    f = f + (curve.effective(encoding.written(u), encoding.curve) - f).detach()
    effective = s * f
    noise = s * (mean(u) + std(u) * z).detach()
    expected = (s**2 * error(u)).sum() / effective.square().sum()
    return effective + noise, expected


def no_noise(u: Tensor) -> Tensor:
    """A law of cells without errors."""
    return torch.zeros_like(u)
