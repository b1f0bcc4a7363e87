"""A custom repair: the shift of each channel's mean by ageing is corrected digitally, with one set per drift level.

A network is trained and exported with it as a bundle, which another program reads back; from this folder::

    hwaware fit --config digits.yaml --recipe digital --model ImageClassification --model.name lenet5
    hwaware export --config digits.yaml --model ImageClassification --model.name lenet5 \
        --model.weights runs/digital/version_0/model.safetensors \
        --model.hardware.device.name reram_powerlaw --model.hardware.encoding.mapping offset \
        --evaluation.methods "[{class_path: own_repair.MeanShift, init_args: {chips: 4}}]" \
        --evaluation.schedule "{target_percent: 99, instances: 2, per_decade: 1}" --out bundle
    python -c "import own_repair, hwaware; print(hwaware.read_bundle('bundle').repairs[0].method)"
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation import FitData, OfflineCompensation
from hwaware.compensation.access import on_outputs
from hwaware.compensation.base import State
from hwaware.compensation.costs import HALF_BYTES, Cost, NetworkSize
from hwaware.compensation.seeds import fitting_chip


@dataclass(frozen=True)
class MeanShift(OfflineCompensation):
    """``y ← y + shift`` after each analog layer: the deviation of the mean over simulated chips.

    Attributes:
        images: number of stored images for the means.
        chips: number of simulated chips.
    """

    name: ClassVar[str] = "mean_shift"

    images: int = 64
    chips: int = 4

    @torch.no_grad()
    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        exact, shift = self._means(model, data), {}
        for number in range(self.chips):
            with Chip.program(model, fitting_chip(seed, number)).at(ages_s[1], purpose="fit"):
                for name, mean in self._means(model, data, exact).items():
                    shift[name] = shift.get(name, 0) + (exact[name] - mean) / self.chips
        return {name: value.half().float() for name, value in shift.items()}

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        return on_outputs(model, lambda name, layer, x, y: y + layer.along_channels(state[name], y))

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        channels = sum(layer.out_channels for layer in size.layers.values())
        return Cost(bytes_stored=levels * channels * HALF_BYTES, extra_macs_percent=0.0)

    def _means(self, model: nn.Module, data: FitData, wanted: State | None = None) -> State:
        """Each channel's mean after each analog layer; layers behind it are given the wanted one, if there is any."""
        found: dict[str, Tensor] = {}

        def keep(name: str, layer: Any, x: Tensor, y: Tensor) -> Tensor:
            found[name] = y.movedim(layer.channel_dim, 0).flatten(1).mean(1)
            return y if wanted is None else y + layer.along_channels(wanted[name] - found[name], y)

        with on_outputs(model, keep):
            data.predict(model, data.calibration(self.images))
        return found
