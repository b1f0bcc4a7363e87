"""Reference columns in the training step."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.hardware import Hardware
from hwaware.hardware.encoding.scale import normalised


def add_reference_noise(
    weight: Tensor, latent: Tensor, scale: Tensor, hardware: Hardware, groups: int, std: float
) -> Tensor:
    """Adds the errors of freshly drawn reference cells, one for each row of a crossbar as on a chip.

    They are a constant in the backward pass.

    Args:
        weight, latent: realised and latent weights of the same shape.
        scale: weight scale, broadcastable to them.
        hardware: hardware whose mapping has a reference column.
        groups: groups of a convolution; 1 otherwise.
        std: standard deviation of the window position caused by a reference cell.
    """
    with torch.no_grad():
        encoding, crossbar = hardware.encoding, hardware.crossbar
        error = torch.randn(crossbar.reference_shape(encoding, latent.shape, groups), device=latent.device) * std
        v = encoding.window_position(normalised(latent.float(), scale))
        moved = encoding.realised(v + crossbar.against_weights(encoding, error, latent.shape)) - encoding.realised(v)
    return weight + (moved * scale).to(weight.dtype)
