"""Tables over normalised weights u of what the hardware does to a weight, for training."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor


def positions(size: int) -> Tensor:
    """The tabulated normalised weights ``u``, float64 ``[size]`` from -1 to 1."""
    return torch.linspace(-1, 1, size, dtype=torch.float64, device="cpu")


class Table:
    """Two functions of u at evenly spaced positions of [-1, 1]; the nearest position counts. Do not write to it.

    One complex tensor has both functions, so that one memory read gives both.

    Args:
        first, second: real tensors ``[K]``.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.packed = torch.complex(first, second).to(torch.complex64)

    def __len__(self) -> int:
        return len(self.packed)

    def to(self, torch_device: torch.device) -> Self:
        """The table on a torch device; itself if it is already there."""
        return self if self.packed.device == torch_device else self._of(self.packed.to(torch_device))

    @classmethod
    def _of(cls, packed: Tensor) -> Self:
        table = cls.__new__(cls)
        table.packed = packed
        return table

    @classmethod
    def between(cls, first: Self, second: Self, share: float) -> Self:
        """A table between two, at a share of the way from the first."""
        return cls._of(torch.lerp(first.packed, second.packed, share))


class NoiseTable(Table):
    """Mean and standard deviation of ``(ŵ - w_eff)/s``.

    Args:
        mean, std: tensors ``[K]``. With a reference column they are of the weight's own cells only.
        reference_std: standard deviation of the window position due to the errors of the reference column's cells,
            which all weights of a crossbar row share; 0: no reference column.
    """

    def __init__(self, mean: Tensor, std: Tensor, reference_std: float = 0.0) -> None:
        super().__init__(mean, std)
        self.reference_std = reference_std

    def to(self, torch_device: torch.device) -> Self:
        table = super().to(torch_device)
        table.reference_std = self.reference_std
        return table

    @classmethod
    def between(cls, first: Self, second: Self, share: float) -> Self:
        table = super().between(first, second, share)
        table.reference_std = first.reference_std + share * (second.reference_std - first.reference_std)
        return table

    @property
    def mean(self) -> Tensor:
        return self.packed.real

    @property
    def std(self) -> Tensor:
        return self.packed.imag


class ErrorTable(Table):
    """``R(u) = E[((ŵ - w_eff)/s)²]`` and dR/du."""

    @property
    def value(self) -> Tensor:
        return self.packed.real

    @property
    def slope(self) -> Tensor:
        return self.packed.imag
