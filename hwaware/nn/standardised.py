"""Convolutions that standardise their weights in every pass (Qiao et al., arXiv 1903.10520; Brock et al., 2101.08692).

Cells hold what multiplies the input, the standardised weights. The parameter stays what the digital layer standardises,
so that finetuning goes on as it does there, and the plain network loads what comes out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwaware.nn.layers import AnalogLayer


class Standardised(AnalogLayer):
    """What such layers share: the latents are computed from the parameter, instead of being it.

    They are always those of the digital layer's function. Where a number format rounds weights, cells hold the rounded
    ones; the file for the plain network cannot, since that would standardise them again.
    """

    is_computed = True
    note = (
        "standardised; always compensated for the I-V curve; not with bias; model.safetensors has them before they are "
        "rounded to levels or codes"
    )

    eps: float
    out_channels: int
    same_pad: bool = False

    @property
    def gains(self) -> Tensor | None:
        """Standard deviations that channels get, ``[C_out]``; None: 1."""
        layer: Any = self
        return None if "gain" not in self._parameters else (layer.gain * layer.scale).flatten()

    def latent(self) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, weight=self.gains, training=True, momentum=0.0, eps=self.eps)
        return self.hardware.encoding.latent(weight.view_as(self.weight)).to(self.weight.dtype)

    @torch.no_grad()
    def hold(self, latent: Tensor) -> None:
        weight = self.hardware.encoding.unrounded(latent)
        if self.gains is not None:  # to a deviation of 1, beside which eps is nothing
            weight = weight / self.along_rows(torch.where(self.gains == 0, 1.0, self.gains))
        self.weight.copy_(weight)

    def along_rows(self, values: Tensor) -> Tensor:
        """Values ``[C_out]`` as a view that broadcasts over the weights."""
        return values.view(-1, *[1] * (self.weight.ndim - 1))

    def predistort(self) -> None:
        pass

    @torch.no_grad()
    def digital_weight(self) -> Tensor:
        return self.weight.detach().clone()
