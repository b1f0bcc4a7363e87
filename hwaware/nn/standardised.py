"""Convolutions that standardise their weights in every pass (Qiao et al., arXiv 1903.10520; Brock et al., 2101.08692).

Cells hold the standardised weights, which multiply the input. The parameter remains the digital layer's, before
standardisation, so finetuning works as in the digital network, and the plain network can load the result.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwaware.nn.layers import AnalogLayer


class Standardised(AnalogLayer):
    """Base class of such layers: latent weights are computed from the parameter, and always pre-distorted.

    If a number format rounds weights, cells hold the rounded ones. The file for the plain network can't, because that
    network standardises them again.
    """

    is_computed = True
    note = (
        "standardised weights; always compensated for the I-V curve; not with model.bias; model.safetensors has the "
        "weights before they are rounded to levels or codes"
    )

    eps: float
    out_channels: int
    same_pad: bool = False

    @property
    def gains(self) -> Tensor | None:
        """Standard deviations of the channels after standardisation, ``[C_out]``; None: 1."""
        layer: Any = self
        return None if "gain" not in self._parameters else (layer.gain * layer.scale).flatten()

    def latent(self) -> Tensor:
        rows = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(rows, None, None, weight=self.gains, training=True, momentum=0.0, eps=self.eps)
        return self.hardware.encoding.latent(weight.view_as(self.weight)).to(self.weight.dtype)

    @torch.no_grad()
    def hold(self, latent: Tensor) -> None:
        weight = self.hardware.encoding.unrounded(latent)
        if self.gains is not None:  # to a standard deviation of 1, so that eps is negligible
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
