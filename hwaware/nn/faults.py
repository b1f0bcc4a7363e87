"""Stuck cells in the training step."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.hardware import Hardware
from hwaware.hardware.devices.faults import is_stuck, stick
from hwaware.hardware.encoding.scale import normalised


def apply_stuck_cells(weight: Tensor, latent: Tensor, scale: Tensor, hardware: Hardware) -> Tensor:
    """Applies freshly drawn stuck cells to realised weights; the other cells of an affected weight are taken as exact.

    An affected weight gets no gradient unless cells hold digits or are in parallel, when its other cells can still be
    written. With parallel cells it also keeps its noise, and is shifted by the change that its stuck cells cause.

    Args:
        weight, latent: realised and latent weights of the same shape.
        scale: weight scale, broadcastable to them.
        hardware: the layer's hardware.
    """
    with torch.no_grad():
        device, encoding = hardware.device, hardware.encoding
        targets = hardware.encode(encoding.window_position(normalised(latent.float(), scale)))
        stuck, cells = torch.zeros_like(latent, dtype=torch.bool), []
        for g in targets:
            for _ in range(encoding.parallel):
                uniform = torch.rand_like(g)
                cells.append(stick(g, uniform, device.stuck_on, device.stuck_off, device.g_min_us, device.g_max_us))
                stuck |= is_stuck(uniform, device.stuck_on, device.stuck_off)
        values = encoding.realised(hardware.decode(encoding.merged(cells))) * scale
        if encoding.parallel > 1:
            values = weight + values - encoding.realised(hardware.decode(targets)) * scale
        values = values.to(weight.dtype)
    if encoding.format.is_fixed_point or encoding.parallel > 1:
        values = weight + (values - weight).detach()
    return torch.where(stuck, values, weight)
