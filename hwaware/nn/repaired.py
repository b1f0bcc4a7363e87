"""Exact weights in the training step, for those that digital memory will hold on each chip."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.hardware import Hardware


def repair_largest_errors(weight: Tensor, written: Tensor, latent: Tensor, hardware: Hardware, share: float) -> Tensor:
    """Makes the weights with the largest errors exact, like the start of sparse adaptation with ``mask: error``.

    They get the gradient of the weights as written.

    Args:
        weight, written, latent: weights with and without stuck cells, and latent weights, of the same shape.
        hardware: the layer's hardware.
        share: fraction of the weights; at least one weight is repaired.
    """
    with torch.no_grad():
        exact = hardware.encoding.unrounded(latent).to(weight.dtype)
        error = (weight - exact).abs().flatten()
        worst = error.topk(max(1, round(share * len(error))), sorted=False).indices  # a threshold could have ties
        repaired = torch.zeros_like(error, dtype=torch.bool).index_fill_(0, worst, True).view_as(weight)
        correction = exact - written
    return torch.where(repaired, written + correction, weight)
