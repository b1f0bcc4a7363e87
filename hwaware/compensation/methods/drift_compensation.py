"""Global and per-column drift compensation: the output for a known input now, relative to just after writing.

As in IBM's aihwkit, with one tile per layer. A scale corrects a decay, but not a shift common to all cells.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.base import FitData, InFieldCompensation, State
from hwaware.compensation.costs import HALF_BYTES, SRAM_WRITE_S, Cost, NetworkSize
from hwaware.nn import Beside, analog_layers, installed_beside

#: Lower bound of the current, so that the scale of a dead tile stays finite.
_LEAST = 1e-4


@dataclass(frozen=True)
class GlobalDriftCompensation(InFieldCompensation):
    """One digital scale per layer: ``mean|ŵ|`` just after writing over ``mean|ŵ|`` at calibration, read one-hot."""

    name: ClassVar[str] = "gdc"

    @torch.no_grad()
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        state = {}
        for name in analog_layers(chip.model):
            written = self._current(chip.weight_at(name, 0.0, purpose="reference"))
            now = self._current(chip.weight_at(name, age_s, purpose="calibration"))
            floor = (_LEAST * written).clamp(min=torch.finfo(torch.float32).tiny)
            state[f"{name}/scale"] = (written / torch.maximum(now, floor)).half().float()
        return state

    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        return installed_beside(model, lambda name, layer: Beside(gain=state[f"{name}/scale"]))

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        scales = self._scales(size)
        return Cost(
            bytes_stored=2 * scales * HALF_BYTES,  # the reference and the scale
            extra_macs_percent=100 * sum(layer.outputs for layer in size.layers.values()) / size.macs,
            cell_reads=size.cells,
            update_time_s=scales * SRAM_WRITE_S,
            trainable_percent=100 * scales / size.parameters,
        )

    def _current(self, weight: Tensor) -> Tensor:
        return weight.float().abs().mean()

    def _scales(self, size: NetworkSize) -> int:
        return len(size.layers)


@dataclass(frozen=True)
class ColumnDriftCompensation(GlobalDriftCompensation):
    """The same with one scale per output channel."""

    name: ClassVar[str] = "column_dc"

    def _current(self, weight: Tensor) -> Tensor:
        return weight.float().abs().flatten(1).mean(1).view(-1, *[1] * (weight.ndim - 1))

    def _scales(self, size: NetworkSize) -> int:
        return sum(layer.out_channels for layer in size.layers.values())
