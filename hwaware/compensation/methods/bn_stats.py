"""Batch-norm statistics of the drifted network: no training, no extra operations."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.base import (
    AUTO,
    FitData,
    InFieldCompensation,
    OfflineCompensation,
    State,
    check_settings,
)
from hwaware.compensation.costs import HALF_BYTES, SRAM_WRITE_S, Cost, NetworkSize
from hwaware.compensation.norms import STATISTICS, batch_norms, installed_statistics, measuring_statistics, stored_half
from hwaware.compensation.training import fresh_chips
from hwaware.errors import UserError

#: Stored images per forward pass; large enough that the variance between batches is negligible.
_BATCH = 200


class _Statistics:
    """Base class: the state is the running mean and variance of batch norms."""

    name: ClassVar[str]

    def check(self, model: nn.Module) -> None:
        if not batch_norms(model):
            raise UserError(f"{self.name}: the network has no batch norm with running statistics; use ln_affine.")

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        return installed_statistics(model, state)


@dataclass(frozen=True)
class BnStats(_Statistics, OfflineCompensation):
    """Running mean and variance measured offline on fresh chips of each drift level, in half precision.

    Attributes:
        batches: number of training batches to measure on, each with its own chip.
    """

    name: ClassVar[str] = "bn_stats"

    batches: int = 40

    def __post_init__(self) -> None:
        check_settings(self, batches=1)

    @torch.no_grad()
    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        batches, chips = data.training(seed), fresh_chips(model, ages_s, seed)
        with measuring_statistics(model) as found:
            for chip, age_s in islice(chips, self.batches):
                with chip.at(age_s, purpose="fitting"):
                    data.predict(model, next(batches))
            return found()

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        return Cost(
            bytes_stored=levels * 2 * size.norm_channels * HALF_BYTES,
            extra_macs_percent=0.0,
            trainable_percent=100 * 2 * size.norm_channels / size.parameters,
        )


@dataclass(frozen=True)
class BnAdaBs(_Statistics, InFieldCompensation):
    """AdaBS: running mean and variance measured on the chip, with stored images and no labels.

    V. Joshi et al., Nature Communications 11, 2473 (2020), who store 2,600 images of CIFAR-10. Averaging over batches
    instead of tuning a momentum is a reconstruction.

    Attributes:
        images: number of stored images.
    """

    name: ClassVar[str] = "bn_adabs"

    #: Values stored for each statistic of a channel.
    stored: ClassVar[int] = 1

    images: int = 2600

    def __post_init__(self) -> None:
        check_settings(self, images=2)  # the variance needs two

    @torch.no_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        with measuring_statistics(chip.model) as found, chip.at(age_s, purpose="calibration"):
            for batch in data.calibration_batches(self.images, _BATCH):
                data.predict(chip.model, batch)
            return found()

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        values = 2 * size.norm_channels
        return Cost(
            bytes_stored=self.stored * values * HALF_BYTES + self.images * size.sample_bytes,
            extra_macs_percent=0.0,
            images_kept=self.images,
            update_time_s=values * SRAM_WRITE_S,
            trainable_percent=100 * values / size.parameters,
        )


@dataclass(frozen=True)
class BnAdaBsDifference(BnAdaBs):
    """AdaBS by differences: the network's own statistics, corrected by the change that drift causes on stored images.

    Means are ``own + chip - exact`` and variances ``own · chip/exact``, with the same images on the chip and on the
    exact network. So statistics of augmented training images are kept, while :class:`BnAdaBs` replaces them with those
    of plain images. Our own variant.

    Attributes:
        targets: the network that stands for ``exact``: ``drift_free``, ``mean_aged`` or ``auto``
            (:class:`~hwaware.compensation.InFieldCompensation`).
    """

    name: ClassVar[str] = "bn_adabs_difference"
    stored: ClassVar[int] = 2  # also those of the exact network

    targets: str = AUTO

    @torch.no_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        aged = super().fit(chip, age_s, data)
        with measuring_statistics(chip.model) as found, self.wanted(chip.model, age_s):
            for batch in data.calibration_batches(self.images, _BATCH):
                data.predict(chip.model, batch)
            exact = found()
        norms = batch_norms(chip.model)
        own = {f"{name}/{what}": getattr(norm, what) for name, norm in norms.items() for what in STATISTICS}
        return {key: _moved(key, own[key], value, exact[key]) for key, value in aged.items()}


def _moved(key: str, own: Tensor, aged: Tensor, exact: Tensor) -> Tensor:
    """The corrected statistic: a mean by the difference, a variance by the ratio; in half precision."""
    if key.endswith("/running_mean"):
        found = own + aged - exact
    else:
        found = own * torch.where(exact > 0, aged / exact.clamp(min=1e-30), torch.ones_like(exact))
    return stored_half(found)
