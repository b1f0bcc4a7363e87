"""Vectors as they are stored: whole numbers of few bits and one scale."""

from __future__ import annotations

import torch
from torch import Tensor

#: Bytes of a vector's scale, a half-precision float.
SCALE_BYTES = 2


def quantised(vector: Tensor, bits: int) -> Tensor:
    """The values that ``bits``-bit signed integers and a half-precision scale can hold; gradients pass straight."""
    levels = 2 ** (bits - 1) - 1
    with torch.no_grad():
        scale = (vector.abs().amax() / levels).half().float().clamp(min=2**-24)  # the smallest half above zero
        stored = (vector / scale).round_().clamp_(-levels, levels).mul_(scale)
    return vector + (stored - vector).detach()


def vector_bytes(values: int, vectors: int, bits: int) -> float:
    """Bytes of so many values in so many vectors."""
    return values * bits / 8 + vectors * SCALE_BYTES
