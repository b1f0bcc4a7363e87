"""The analog form of Falcon's linear layer. Imported only if its module already is."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from transformers.models.falcon.modeling_falcon import FalconLinear

from hwaware.nn.layers import AnalogLinear, register_analog


@register_analog
class AnalogFalconLinear(AnalogLinear, FalconLinear):
    """Falcon's variant of :class:`torch.nn.Linear`, which rounds between product and bias."""

    digital_class = FalconLinear

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        output = F.linear(input, weight)
        return output if bias is None else output + bias
