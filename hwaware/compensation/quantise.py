"""Quantisation of stored vectors: integers of a few bits and one scale."""

from __future__ import annotations

import torch
from torch import Tensor

#: Bytes of a vector's scale, a half-precision float.
SCALE_BYTES = 2


@torch.no_grad()
def codes(vector: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The ``bits``-bit signed integers and the scale (a half-precision number, in fp32) that store a vector."""
    levels = 2 ** (bits - 1) - 1
    exact = vector.abs().amax() / levels
    scale = exact.half()
    # Rounded up: a scale that is too small would clip the vector, noticeably where half precision is coarse.
    scale = torch.where(scale.float() < exact, (scale.view(torch.int16) + 1).view(torch.half), scale).float()
    scale = scale.clamp(min=2**-24)  # the smallest half above zero
    whole = (vector / scale).round_().clamp_(-levels, levels)
    return whole.to(torch.int8 if bits <= 8 else torch.int16), scale


def quantised(vector: Tensor, bits: int) -> Tensor:
    """Rounds a vector to the values that :func:`codes` can hold; gradients pass straight through."""
    whole, scale = codes(vector, bits)
    return vector + (whole * scale - vector).detach()


def vector_bytes(values: int, vectors: int, bits: int) -> float:
    """Bytes of a number of values in a number of vectors."""
    return values * bits / 8 + vectors * SCALE_BYTES
