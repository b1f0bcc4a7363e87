"""A layer's inputs and weights, array by array: see :mod:`hwaware.hardware.crossbar.tiling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from hwaware.hardware import RowPart

if TYPE_CHECKING:
    from hwaware.nn.layers import AnalogLayer


def inputs_of_parts(layer: AnalogLayer, x: Tensor) -> list[Tensor]:
    """The channels of a layer's input that drive each part of its rows; views."""
    parts = layer.tiling.parts
    if len(parts) == 1:
        return [x]
    dim = x.ndim + layer.channel_dim
    channels = [one.channels for one in parts]
    if parts[0].taps == parts[-1].taps:  # one split, whose gradient is one tensor
        pieces = x.unflatten(dim, (layer.groups, -1)).split([stop - start for start, stop in channels], dim + 1)
        return [piece.flatten(dim, dim + 1) for piece in pieces]
    of_channel = x.unflatten(dim, (layer.groups, -1)).split(1, dim + 1)
    return [of_channel[start].flatten(dim, dim + 1) for start, _ in channels]


def weights_of_parts(layer: AnalogLayer, weight: Tensor) -> Sequence[Tensor]:
    """The weights ``[C_out, channels, *kernel]`` of each part of a layer's rows, ``[C_out, C_in/groups, *kernel]``."""
    parts = layer.tiling.parts
    if len(parts) == 1:
        return [weight]
    if parts[0].taps == parts[-1].taps:
        return weight.split([one.channels[1] - one.channels[0] for one in parts], 1)
    of_channel = weight.split(1, 1)
    return [_only(of_channel[one.channels[0]], one) for one in parts]


def _only(weight: Tensor, part: RowPart) -> Tensor:
    """The weights of some taps, and zeros for the others."""
    taps = weight.flatten(1)
    start, stop = part.taps
    return F.pad(taps[:, start:stop], (start, taps.shape[1] - stop)).view_as(weight)
