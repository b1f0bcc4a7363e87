"""Noise on the weights in the forward pass of a training step."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from hwaware.devices import Device
from hwaware.errors import UserError, nearest
from hwaware.nn import analog_layers
from hwaware.training.ages import AgeDistribution

#: Positions at which the device's statistics are tabulated: odd, so that u = 0, where the statistics of a differential
#: pair have a kink, is one of them. The spacing (0.001) is far below the cell's spread over the window (about 0.015).
TABLE_SIZE = 2049

_KINDS = ("none", "gaussian", "device")


@dataclass(frozen=True)
class TrainingNoise:
    """What is added to the effective weights in each forward pass of training; a constant in the backward pass.

    Attributes:
        kind: ``device``: a Gaussian with the mean and standard deviation that the device's cells have at an age drawn
            for each step; ``gaussian``: zero mean, the same standard deviation for every weight (Joshi et al. 2020, the
            common baseline); ``none``.
        std: for ``gaussian``, the standard deviation as a fraction of the layer's (or channel's) ``max|w|``.
        ages: for ``device``, the ages to draw from.
    """

    kind: Literal["none", "gaussian", "device"] = "device"
    std: float = 0.038
    ages: AgeDistribution = field(default_factory=AgeDistribution)

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UserError(f"training noise kind '{self.kind}' is unknown. {nearest(self.kind, _KINDS)}")
        if not self.std >= 0:
            raise UserError(f"training noise std={self.std} must be 0 or more (a fraction of max|w|).")


def positions() -> Tensor:
    """The tabulated normalised weights ``u``, float64 ``[TABLE_SIZE]`` from -1 to 1."""
    return torch.linspace(-1, 1, TABLE_SIZE, dtype=torch.float64)


@lru_cache(maxsize=8)
def noise_table(device: Device, age_s: float) -> Tensor:
    """``(ŵ - w_eff)/s`` at :func:`positions` as mean + i·std, complex64: programming, drift and one read at the age."""
    mean, std = device.weight_moments(positions(), age_s)
    return torch.complex(mean, std).to(torch.complex64)


@lru_cache(maxsize=8)
def _gaussian_table(std: float) -> Tensor:
    return torch.full((TABLE_SIZE,), complex(0.0, std), dtype=torch.complex64)


def install_noise(model: nn.Module, noise: TrainingNoise) -> float | None:
    """Lets the model's analog layers draw noise in training mode; call once per step, after seeding.

    Each forward of each layer then draws anew, from torch's global generator.

    Returns:
        The age in s drawn for this step; None where the noise has none.
    """
    age_s = noise.ages.draw() if noise.kind == "device" else None
    for layer in analog_layers(model).values():
        if noise.kind == "device":
            table = noise_table(layer.device, age_s)
        else:
            table = _gaussian_table(noise.std) if noise.kind == "gaussian" else None
        layer.noise = table if table is None else table.to(layer.weight.device)
    return age_s


def remove_noise(model: nn.Module) -> None:
    """Undoes :func:`install_noise`."""
    for layer in analog_layers(model).values():
        layer.noise = None
