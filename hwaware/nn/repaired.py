"""In the training step, the weights that digital memory will hold on each chip."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.hardware import Hardware


def repair_largest_errors(weight: Tensor, written: Tensor, latent: Tensor, hardware: Hardware, share: float) -> Tensor:
    """Weights of which those with the largest errors are exact, as sparse adaptation with ``mask: error`` starts.

    They get the gradient of the weights as they were written.

    Args:
        weight, written, latent: weights with and without stuck cells, and latents, of the same shape.
        hardware: that holds them.
        share: of the weights; at least one is repaired.
    """
    with torch.no_grad():
        exact = hardware.encoding.unrounded(latent).to(weight.dtype)
        error = (weight - exact).abs().flatten()
        worst = error.topk(max(1, round(share * len(error))), sorted=False).indices  # a threshold would tie
        repaired = torch.zeros_like(error, dtype=torch.bool).index_fill_(0, worst, True).view_as(weight)
        correction = exact - written
    return torch.where(repaired, written + correction, weight)
