"""Training of the scales and shifts of normalisation layers for the drifted network."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.compensation.access import frozen
from hwaware.compensation.base import FitData, InFieldCompensation, OfflineCompensation, State, check_settings
from hwaware.compensation.costs import HALF_BYTES, SRAM_WRITE_S, Cost, NetworkSize
from hwaware.compensation.norms import affine_batch_norms, affine_state, installed_affine, layer_norms
from hwaware.compensation.quantise import quantised, vector_bytes
from hwaware.compensation.training import train_vectors
from hwaware.errors import UserError


@dataclass(frozen=True)
class BnFinetune(InFieldCompensation):
    """Scales and shifts of batch norms, trained on the chip with stored, labelled images.

    After A. Bhattacharjee et al. (2023): five epochs with a learning rate of 0.01, divided by five after every second
    epoch. The number of images, the batch size and the momentum are reconstructions.

    Attributes:
        images: number of stored, labelled images.
        epochs, lr: epochs and learning rate of SGD with momentum 0.9.
        batch_size: batch size of the training.
    """

    name: ClassVar[str] = "bn_finetune"
    by_loss: ClassVar[bool] = True

    images: int = 2600
    epochs: int = 5
    lr: float = 0.01
    batch_size: int = 100

    def __post_init__(self) -> None:
        check_settings(self, images=1, epochs=1, batch_size=1)

    def check(self, model: nn.Module) -> None:
        if not affine_batch_norms(model):
            raise UserError("bn_finetune: the network has no batch norm with a scale and shift; use ln_affine.")

    @torch.enable_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        model, norms = chip.model, affine_batch_norms(chip.model)
        state = {name: value.requires_grad_(True) for name, value in affine_state(norms).items()}
        optimizer = torch.optim.SGD(state.values(), lr=self.lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.2)
        with frozen(model), chip.at(age_s, purpose="calibration"), installed_affine(norms, state):
            for _ in range(self.epochs):
                for batch in data.calibration_batches(self.images, self.batch_size):
                    optimizer.zero_grad()
                    data.loss(model, batch).backward()
                    optimizer.step()
                schedule.step()
        return {name: value.detach().half().float() for name, value in state.items()}

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        return installed_affine(affine_batch_norms(model), state)

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        values = 2 * size.affine_norm_channels
        updates = self.epochs * -(-self.images // self.batch_size)
        return Cost(
            bytes_stored=values * HALF_BYTES + self.images * (size.sample_bytes + size.answer_bytes),
            extra_macs_percent=0.0,
            images_kept=self.images,
            labels_kept=self.images if size.labelled else 0,
            update_time_s=updates * values * SRAM_WRITE_S,
            trainable_percent=100 * values / size.parameters,
        )


@dataclass(frozen=True)
class LnAffine(OfflineCompensation):
    """Scales and shifts of layer norms, trained offline for each drift level, for networks without batch norm.

    They are stored as differences from the network's own values.

    Attributes:
        bits: bits of a stored value.
        steps, lr: optimiser steps and learning rate.
    """

    name: ClassVar[str] = "ln_affine"
    by_loss: ClassVar[bool] = True

    bits: int = 8
    steps: int = 200
    lr: float = 0.003

    def __post_init__(self) -> None:
        check_settings(self, steps=1)

    def check(self, model: nn.Module) -> None:
        if not layer_norms(model):
            raise UserError("ln_affine: the network has no layer norm with a scale and shift; use channel_affine.")

    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        fresh = {name: torch.zeros_like(value) for name, value in affine_state(layer_norms(model)).items()}
        return train_vectors(self, model, ages_s, data, seed, fresh | start, steps=self.steps, lr=self.lr)

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        norms = layer_norms(model)
        own = affine_state(norms)
        return installed_affine(norms, {name: own[name] + quantised(state[name], self.bits) for name in own})

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        values = 2 * size.layer_norm_channels
        return Cost(
            bytes_stored=levels * vector_bytes(values, 2 * size.layer_norms, self.bits),
            extra_macs_percent=0.0,
            trainable_percent=100 * values / size.parameters,
        )
