"""The effect of wire resistance on exact weights."""

from __future__ import annotations

import torch
from torch import Tensor

from hwaware.hardware import Hardware
from hwaware.hardware.crossbar.places import changed
from hwaware.hardware.encoding.scale import normalised


def add_wire_drop(
    weight: Tensor, latent: Tensor, scale: Tensor, hardware: Hardware, groups: int, training: bool
) -> Tensor:
    """Adds the change that wire resistance causes in exact weights; a constant in the backward pass.

    Args:
        weight, latent: realised and latent weights of the same shape.
        scale: weight scale, broadcastable to them.
        hardware: hardware whose crossbar has wires.
        groups: groups of a convolution; 1 otherwise.
        training: whether to use the first-order drop, which is an order of magnitude cheaper.
    """
    wires, encoding = hardware.crossbar.wires, hardware.encoding
    assert wires is not None
    with torch.no_grad():
        v = encoding.window_position(normalised(latent.float(), scale))
        targets = [g for g in hardware.encode(v) for _ in range(encoding.parallel)]
        reference = hardware.reference_targets(tuple(latent.shape), groups, v.device)
        change = wires.training_us if training else wires.effective_us
        cells, against = changed(hardware.tiling(tuple(latent.shape), groups), targets, reference, change)
        read = hardware.decode_cells(cells, against)
        moved = encoding.realised(read) - encoding.realised(v)
    return weight + (moved * scale).to(weight.dtype)
