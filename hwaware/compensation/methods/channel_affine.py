"""A scale and a shift for each output channel: a simple and cheap baseline."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwaware.compensation.access import on_outputs
from hwaware.compensation.base import FitData, OfflineCompensation, State, check_settings
from hwaware.compensation.costs import Cost, NetworkSize
from hwaware.compensation.quantise import quantised, vector_bytes
from hwaware.compensation.training import train_vectors
from hwaware.nn import AnalogLayer, analog_layers


@dataclass(frozen=True)
class ChannelAffine(OfflineCompensation):
    """``y ← (1 + gain)·y + shift`` after each analog layer, trained offline for each drift level.

    Attributes:
        bits: bits of a stored value.
        steps, lr: optimiser steps and learning rate.
    """

    name: ClassVar[str] = "channel_affine"
    by_loss: ClassVar[bool] = True

    bits: int = 8
    steps: int = 200
    lr: float = 0.01

    def __post_init__(self) -> None:
        check_settings(self, steps=1)

    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        fresh = {
            f"{name}/{what}": torch.zeros(layer.rows_shape[0], device=layer.weight.device)
            for name, layer in analog_layers(model).items()
            for what in ("gain", "shift")
        }
        return train_vectors(self, model, ages_s, data, seed, fresh | start, steps=self.steps, lr=self.lr)

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        values = {name: quantised(value, self.bits) for name, value in state.items()}

        def change(name: str, layer: AnalogLayer, x: Tensor, y: Tensor) -> Tensor:
            gain, shift = (layer.along_channels(values[f"{name}/{what}"], y) for what in ("gain", "shift"))
            return y + y * gain + shift

        return on_outputs(model, change)

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        channels = sum(layer.out_channels for layer in size.layers.values())
        return Cost(
            bytes_stored=levels * vector_bytes(2 * channels, 2 * len(size.layers), self.bits),
            extra_macs_percent=100 * sum(layer.outputs for layer in size.layers.values()) / size.macs,
            trainable_percent=100 * 2 * channels / size.parameters,
        )
