"""What sets the scale s that weights are normalised by: ``u = w/s``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Scale(Protocol):
    """One policy.

    Attributes:
        name: in recipes and results.
        per_channel: whether each output channel has a scale of its own.
    """

    name: ClassVar[str]
    per_channel: ClassVar[bool]

    @property
    def fixed(self) -> float | None:
        """s, where it is the same whatever the weights are; None where they set it."""
        ...

    def of(self, weight: Tensor) -> Tensor:
        """s in fp32 for weights ``[C_out, …]``: 0-dim, or ``[C_out, 1, …]`` per channel.

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
    """``s = max|w|`` of each output channel; 0 for a channel of zeros, whose cells then are read as zeros."""

    name: ClassVar[str] = "channel"
    per_channel: ClassVar[bool] = True
    fixed: ClassVar[None] = None

    def of(self, weight: Tensor) -> Tensor:
        return weight.flatten(1).abs().amax(1).float().view(-1, *[1] * (weight.ndim - 1))


@dataclass(frozen=True)
class FixedScale:
    """The same s for all layers; weights beyond it are clipped.

    Attributes:
        fixed: s.
    """

    name: ClassVar[str] = "fixed"
    per_channel: ClassVar[bool] = False

    fixed: float

    def of(self, weight: Tensor) -> Tensor:
        return torch.full((), self.fixed, dtype=torch.float32, device=weight.device)


#: Policies that the weights set, by name.
SCALES: dict[str, Scale] = {scale.name: scale for scale in (TensorScale(), ChannelScale())}

SCALE_NAMES = (*SCALES, FixedScale.name)


def normalised(weight: Tensor, scale: Tensor) -> Tensor:
    """``u = w/s``, in the precision of the two; 0 where s is 0. Lets a NaN pass, so that it can be seen."""
    return weight / torch.where(scale == 0, torch.ones_like(scale), scale)
