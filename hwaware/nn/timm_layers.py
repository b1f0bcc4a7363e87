"""Analog forms of timm's own layer classes. Imported only if timm already is."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d
from timm.layers import Linear as TimmLinear
from timm.layers.padding import pad_same
from timm.layers.std_conv import StdConv2dSame
from torch import Tensor

from hwaware.nn.layers import AnalogLayer, AnalogLinear, register_analog
from hwaware.nn.standardised import Standardised


@register_analog
class AnalogConv2dSame(AnalogLayer, Conv2dSame):
    """:class:`timm.layers.Conv2dSame`: TensorFlow's input-dependent, asymmetric padding."""

    digital_class = Conv2dSame
    channel_dim = -3

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return _convolve_same(self, input, weight, bias)


@register_analog
class AnalogTimmLinear(AnalogLinear, TimmLinear):
    """:class:`timm.layers.Linear`."""

    digital_class = TimmLinear


class _StandardisedConv2d(Standardised):
    channel_dim = -3

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.same_pad:
            return _convolve_same(self, input, weight, bias)
        layer: Any = self
        return F.conv2d(input, weight, bias, layer.stride, layer.padding, layer.dilation, self.groups)


@register_analog
class AnalogStdConv2d(_StandardisedConv2d, StdConv2d):
    """:class:`timm.layers.StdConv2d` (BiT)."""

    digital_class = StdConv2d


@register_analog
class AnalogStdConv2dSame(_StandardisedConv2d, StdConv2dSame):
    """:class:`timm.layers.StdConv2dSame` (hybrid ViTs)."""

    digital_class = StdConv2dSame


@register_analog
class AnalogScaledStdConv2d(_StandardisedConv2d, ScaledStdConv2d):
    """:class:`timm.layers.ScaledStdConv2d` (NFNet), whose channels have a gain."""

    digital_class = ScaledStdConv2d


@register_analog
class AnalogScaledStdConv2dSame(_StandardisedConv2d, ScaledStdConv2dSame):
    """:class:`timm.layers.ScaledStdConv2dSame`, likewise."""

    digital_class = ScaledStdConv2dSame


def _convolve_same(layer: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    input = pad_same(input, list(weight.shape[-2:]), list(layer.stride), list(layer.dilation))
    return F.conv2d(input, weight, bias, layer.stride, (0, 0), layer.dilation, layer.groups)
