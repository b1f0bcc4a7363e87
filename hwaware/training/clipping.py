"""Weight clipping."""

from __future__ import annotations

import torch
from torch import nn

from hwaware.errors import UserError
from hwaware.nn import owning_layers


@torch.no_grad()
def clip_weights_(model: nn.Module, alpha: float) -> None:
    """Clips each analog layer's latent weights to ±α standard deviations, in place.

    As in Joshi et al. (2020), with α from 2 to 2.5. The range shrinks, so the same conductance error is a smaller
    weight error. Call it after each optimiser step. Frozen weights (``requires_grad=False``) are not clipped.

    Args:
        model: a converted network.
        alpha: α, in standard deviations.

    Raises:
        UserError: α is not above 0.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64))
        >>> report = hwaware.convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> before = model[0].weight.std()
        >>> clip_weights_(model, 1.0)
        >>> bool(model[0].weight.abs().max() <= 1.01 * before)
        True
    """
    if not alpha > 0:
        raise UserError(f"clip alpha={alpha} must be above 0 (2.5 is usual); null turns clipping off.")
    for weight in (layer.weight for layer in owning_layers(model).values()):
        if not weight.requires_grad:
            continue
        limit = alpha * weight.std(correction=0)
        if limit > 0:  # 0 if all weights are equal: there is no outlier
            weight.clamp_(-limit, limit)
