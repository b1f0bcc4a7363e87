"""Stuck cells in the training step."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.hardware.devices import Device
from hwaware.hardware.devices.faults import stick
from hwaware.hardware.encoding import curve as iv


def apply_stuck_cells(weight: Tensor, latent: Tensor, scale: Tensor, device: Device) -> Tensor:
    """Realised weights with freshly drawn stuck cells; the other cells of a weight with one are taken as exact.

    Such a weight gets no gradient, except where cells hold digits: of so many the others can still be written.

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
        stuck = torch.zeros_like(latent, dtype=torch.bool)
        for uniform in uniforms:
            stuck |= (uniform < device.stuck_on) | (uniform >= 1 - device.stuck_off)
        values = iv.realised(device.layout.decode(cells, *window), device.kappa, device.range_fraction) * scale
        values = values.to(weight.dtype)
    if device.slices is not None:
        values = weight + (values - weight).detach()
    return torch.where(stuck, values, weight)
