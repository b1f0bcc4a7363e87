"""Training noise: noise on the weights in the forward pass of a training step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from hwaware.errors import UserError, nearest
from hwaware.hardware import Hardware
from hwaware.nn import analog_layers
from hwaware.nn.weights.tables import NoiseTable, positions
from hwaware.training.ages import AgeDistribution

#: Positions at which the device's statistics are tabulated; odd, so that u = 0, where the statistics of a differential
#: pair have a kink, is one of them. The spacing (0.001) is far below the cell's spread over the window (about 0.015).
TABLE_SIZE = 2049

#: Tabulated ages per decade, for ages that are drawn from a continuum.
_AGES_PER_DECADE = 4

_KINDS = ("none", "gaussian", "device")


@dataclass(frozen=True)
class TrainingNoise:
    """Noise on the effective weights in each forward pass of training; a constant in the backward pass.

    Attributes:
        kind: ``device``: a Gaussian with the mean and standard deviation of the device's cells at an age drawn in each
            step; ``gaussian``: zero mean and one standard deviation for all weights (Joshi et al. 2020, the common
            baseline); ``none``.
        std: for ``gaussian``, the standard deviation as a fraction of the weight scale: of the layer's (or channel's)
            ``max|w|``, or of a fixed scale.
        ages: for ``device``, the distribution of ages.
        repaired: for ``device``, the fraction of each layer's weights, those with the largest errors, that stay exact.
            :class:`~hwaware.compensation.RandomSparseAdaptation` with ``mask: error`` restores these on every chip, so
            the network need not become robust to their errors.

    Examples:
        >>> TrainingNoise().kind, TrainingNoise(kind="gaussian", std=0.04).std
        ('device', 0.04)
    """

    kind: Literal["none", "gaussian", "device"] = "device"
    std: float = 0.038
    ages: AgeDistribution = field(default_factory=AgeDistribution)
    repaired: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UserError(f"training noise kind '{self.kind}' is unknown. {nearest(self.kind, _KINDS)}")
        if not self.std >= 0:
            raise UserError(f"training noise std={self.std} must be 0 or more (a fraction of max|w|).")
        if not 0 <= self.repaired < 1:
            raise UserError(f"training noise repaired={self.repaired} must lie in [0, 1), a share of the weights.")
        if self.repaired and self.kind != "device":
            raise UserError(f"training noise of kind '{self.kind}' has no cells to repair: leave 'repaired' out.")


@lru_cache(maxsize=1024)
def noise_table(hardware: Hardware, age_s: float) -> NoiseTable:
    """Table of the noise on a weight from programming, drift and one read at an age (s)."""
    encoding, device = hardware.encoding, hardware.device
    mean, std = encoding.moments(device, positions(TABLE_SIZE), age_s, reference_noise=False)
    return NoiseTable(mean, std, encoding.reference_std(device, age_s))


def _noise_table_between(hardware: Hardware, age_s: float, ages: AgeDistribution) -> NoiseTable:
    """:func:`noise_table`, interpolated in the logarithm of the age, since a new table per step would be too slow.

    The error is about a thousandth of the standard deviation (CMO ReRAM, four ages per decade).
    """
    low_s, high_s = ages.ages_s
    position = math.floor(_AGES_PER_DECADE * math.log10(age_s / low_s))
    younger, older = (min(low_s * 10 ** (k / _AGES_PER_DECADE), high_s) for k in (position, position + 1))
    if younger >= older:
        return noise_table(hardware, high_s)
    share = math.log(age_s / younger) / math.log(older / younger)
    return NoiseTable.between(noise_table(hardware, younger), noise_table(hardware, older), share)


@lru_cache(maxsize=8)
def _gaussian_table(std: float) -> NoiseTable:
    return NoiseTable(torch.zeros(TABLE_SIZE), torch.full((TABLE_SIZE,), std))


def install_noise(model: nn.Module, noise: TrainingNoise) -> float | None:
    """Makes the model's analog layers draw noise in training mode; call once per step, after seeding.

    Each forward pass of each layer draws new noise from torch's global generator.

    Args:
        model: a converted network.
        noise: settings of the noise.

    Returns:
        The age (s) drawn for this step; None if the noise has no age.

    Raises:
        UserError: the network has no analog layer.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4)).train()
        >>> report = hwaware.convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> age_s = install_noise(model, TrainingNoise())
        >>> first, second = model(torch.ones(1, 8)), model(torch.ones(1, 8))
        >>> torch.equal(first, second)  # each forward draws anew
        False
    """
    if not (layers := analog_layers(model)):
        raise UserError("the network has no analog layer to add noise to: call convert(model, hardware) first.")
    age_s = noise.ages.draw() if noise.kind == "device" else None
    tables: dict[
        tuple[Hardware, torch.device], NoiseTable | None
    ] = {}  # one for all equal layers: copies cost time on a GPU
    for layer in layers.values():
        key, device = (layer.hardware, layer.weight.device), layer.hardware.device
        if key not in tables:
            table = _table(layer.hardware, noise, age_s)
            tables[key] = table if table is None else table.to(layer.weight.device)
        layer.noise, layer.ready = tables[key], None
        layer.repaired = noise.repaired
        layer.stuck_cells = noise.kind == "device" and device.stuck_on + device.stuck_off > 0
    return age_s


def _table(hardware: Hardware, noise: TrainingNoise, age_s: float | None) -> NoiseTable | None:
    if noise.kind == "gaussian":
        return _gaussian_table(noise.std)
    if age_s is None:
        return None
    if noise.ages.kind == "log_uniform":
        return _noise_table_between(hardware, age_s, noise.ages)
    return noise_table(hardware, age_s)


def remove_noise(model: nn.Module) -> None:
    """Undoes :func:`install_noise`.

    Examples:
        >>> import hwaware, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4)).train()
        >>> report = hwaware.convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> age_s = install_noise(model, TrainingNoise())
        >>> remove_noise(model)
        >>> torch.equal(model(torch.ones(1, 8)), model(torch.ones(1, 8)))
        True
    """
    for layer in analog_layers(model).values():
        layer.noise = layer.ready = None
