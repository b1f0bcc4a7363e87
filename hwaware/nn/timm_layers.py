"""Analog forms of timm's own layer classes. Imported only where timm already is."""

from __future__ import annotations

import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers import Linear as TimmLinear
from timm.layers.padding import pad_same
from torch import Tensor

from hwaware.nn.layers import AnalogLayer, AnalogLinear, register_analog


@register_analog
class AnalogConv2dSame(AnalogLayer, Conv2dSame):
    """:class:`timm.layers.Conv2dSame`: TensorFlow's input-dependent, asymmetric padding."""

    digital_class = Conv2dSame
    channel_dim = -3

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        input = pad_same(input, list(weight.shape[-2:]), list(self.stride), list(self.dilation))
        return F.conv2d(input, weight, bias, self.stride, (0, 0), self.dilation, self.groups)


@register_analog
class AnalogTimmLinear(AnalogLinear, TimmLinear):
    """:class:`timm.layers.Linear`."""

    digital_class = TimmLinear
