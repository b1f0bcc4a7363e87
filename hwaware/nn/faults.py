"""Stuck cells in the training step."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.devices import Device, iv
from hwaware.devices.faults import stick


def apply_stuck_cells(weight: Tensor, latent: Tensor, scale: Tensor, device: Device) -> Tensor:
    """Realised weights with freshly drawn stuck cells; a weight with a stuck cell gets no gradient.

    Where cells hold digits, of which each weight has many, a stuck one replaces its digit's part alone: the others are
    still written, so that the weight keeps its noise and gradient.

    Args:
        weight, latent: realised and latent weights of the same shape.
        scale: weight scale, broadcastable to them.
    """
    with torch.no_grad():
        window = device.g_min_us, device.g_max_us
        targets = device.layout.encode(device.window_position(latent.float() / scale), *window)
        uniforms = [torch.rand_like(g) for g in targets]
        cells = tuple(
            stick(g, uniform, device.stuck_on, device.stuck_off, *window)
            for g, uniform in zip(targets, uniforms, strict=True)
        )
        v = device.layout.decode(cells, *window)
        if device.slices is not None:
            shift = (v - device.layout.decode(targets, *window)) * scale
        else:
            stuck = torch.zeros_like(latent, dtype=torch.bool)
            for uniform in uniforms:
                stuck |= (uniform < device.stuck_on) | (uniform >= 1 - device.stuck_off)
            values = iv.realised(v, device.kappa, device.range_fraction) * scale
    if device.slices is not None:
        return weight + shift.to(weight.dtype)
    return torch.where(stuck, values.to(weight.dtype), weight)
