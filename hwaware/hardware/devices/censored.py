"""Statistics of a cell whose conductance is clamped to what the cell can hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SMALLEST_VARIANCE = 1e-24  # µS²; keeps the square root's gradient finite


def std_of(variance: Tensor) -> Tensor:
    """The square root of a variance; 0 where the variance is 0 or, by rounding, negative.

    The gradient is also 0 there. Torch's own gradient is infinite and turns into NaN in products (``clamp_min`` lets it
    pass before torch 2.14).
    """
    some = variance > 0
    return torch.where(some, variance, 1.0).sqrt() * some


def _normal_pdf(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def censored_moments(mean: Tensor, std: Tensor, low: float, high: float | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ``clamp(X, low, high)`` for ``X ~ N(mean, std²)`` (a censored Gaussian).

    Args:
        mean, std: of the Gaussian before the clamp, broadcastable, in any unit; float64 is advisable.
        low, high: the clamp in the same unit; ``high=None`` leaves the top open.

    Returns:
        The two moments in the broadcast shape, differentiable in ``mean`` and ``std``.
    """
    std = std.clamp_min(1e-12)  # a cell without spread is a limit; avoids division by zero
    # Computed relative to the mean: squares of conductances would lose half the digits.
    a = low - mean
    cdf_a, pdf_a = torch.special.ndtr(a / std), _normal_pdf(a / std)
    first = a * cdf_a + std * pdf_a
    second = a * a * cdf_a + std * a * pdf_a
    inside = 1 - cdf_a
    if high is not None:
        b = high - mean
        above, pdf_b = torch.special.ndtr(-b / std), _normal_pdf(b / std)
        first = first + b * above - std * pdf_b
        second = second + b * b * above - std * b * pdf_b
        inside = inside - above
    second = second + std * std * inside
    # The floor keeps the gradient of the square root finite for a cell whose whole distribution is clamped.
    return mean + first, (second - first * first).clamp_min(SMALLEST_VARIANCE).sqrt()


def censored_exponential(
    mean: Tensor, std: Tensor, low: float | Tensor, high: float | Tensor | None, rate: float
) -> Tensor:
    """``E exp(rate·clamp(X, low, high))`` for ``X ~ N(mean, std²)``: the expected sinh of a clamped cell needs it.

    Args:
        mean, std, low, high: see :func:`censored_moments`.
        rate: in the inverse of their unit; positive or negative.
    """
    std = std.clamp_min(1e-12)
    a = (low - mean) / std
    below = torch.exp(rate * (mean + a * std)) * torch.special.ndtr(a)
    inside = torch.exp(rate * mean + (rate * std).square() / 2)
    if high is None:
        return below + inside * torch.special.ndtr(rate * std - a)
    b = (high - mean) / std
    between = torch.special.ndtr(b - rate * std) - torch.special.ndtr(a - rate * std)
    return below + torch.exp(rate * (mean + b * std)) * torch.special.ndtr(-b) + inside * between
