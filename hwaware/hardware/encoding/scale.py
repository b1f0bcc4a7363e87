"""Scale policies: the scale s that normalises weights, ``u = w/s``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Scale(Protocol):
    """One scale policy.

    Attributes:
        name: name in recipes and results.
        per_channel: whether each output channel has its own scale.
    """

    name: ClassVar[str]
    per_channel: ClassVar[bool]

    @property
    def fixed(self) -> float | None:
        """s if it does not depend on the weights; None otherwise."""
        ...

    def of(self, weight: Tensor) -> Tensor:
        """The scale s of weights ``[C_out, …]``, fp32: 0-dim, or ``[C_out, 1, …]`` per channel.

        Differentiable: ties share the gradient.
        """
        ...


@dataclass(frozen=True)
class TensorScale:
    """``s = max|w|`` of the whole tensor."""

    name: ClassVar[str] = "tensor"
    per_channel: ClassVar[bool] = False
    fixed: ClassVar[None] = None

    def of(self, weight: Tensor) -> Tensor:
        return weight.abs().amax().float()


@dataclass(frozen=True)
class ChannelScale:
    """``s = max|w|`` of each output channel; 0 for a channel of zeros, whose weights are then read as zeros."""

    name: ClassVar[str] = "channel"
    per_channel: ClassVar[bool] = True
    fixed: ClassVar[None] = None

    def of(self, weight: Tensor) -> Tensor:
        return weight.flatten(1).abs().amax(1).float().view(-1, *[1] * (weight.ndim - 1))


@dataclass(frozen=True)
class FixedScale:
    """The same s for all layers; larger weights are clipped.

    Attributes:
        fixed: the scale s.
    """

    name: ClassVar[str] = "fixed"
    per_channel: ClassVar[bool] = False

    fixed: float

    def of(self, weight: Tensor) -> Tensor:
        return torch.full((), self.fixed, dtype=torch.float32, device=weight.device)


#: Policies that depend on the weights, by name.
SCALES: dict[str, Scale] = {scale.name: scale for scale in (TensorScale(), ChannelScale())}

SCALE_NAMES = (*SCALES, FixedScale.name)


def normalised(weight: Tensor, scale: Tensor) -> Tensor:
    """``u = w/s`` in the precision of the inputs; 0 where s is 0. NaN is passed on, so that it is noticed."""
    return weight / torch.where(scale == 0, torch.ones_like(scale), scale)
