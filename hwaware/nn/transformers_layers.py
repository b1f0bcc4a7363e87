"""Analog forms of layer classes that transformers models share. Imported only if their module already is."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from hwaware.nn.layers import AnalogLayer, register_analog


@register_analog
class AnalogConv1D(AnalogLayer, Conv1D):  # type: ignore[misc]  # whose attributes have no types
    """GPT-2's linear layer, whose parameter is ``[in, out]``; in the layout of the cells, outputs are first."""

    digital_class = Conv1D
    channel_dim = -1

    def as_rows(self, weight: Tensor) -> Tensor:
        return weight.T

    def as_parameter(self, rows: Tensor) -> Tensor:
        return rows.T

    def apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(input, weight, bias)
