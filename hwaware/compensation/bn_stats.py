"""Batch-norm statistics for each drift level: no training, no extra operation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.compensation.base import FitData, OfflineCompensation, State
from hwaware.compensation.costs import Cost, NetworkSize
from hwaware.compensation.seeds import fitting_chip
from hwaware.devices import Device
from hwaware.errors import UserError

_KINDS = ("running_mean", "running_var")


def batch_norms(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The network's batch norms that keep statistics, by name."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    return {name: module for name, module in found.items() if module.running_mean is not None}


@dataclass(frozen=True)
class BnStats(OfflineCompensation):
    """Running mean and variance measured offline on fresh chips of each drift level, in half precision.

    Attributes:
        batches: training batches to measure with, each on a chip of its own.
    """

    name: ClassVar[str] = "bn_stats"

    batches: int = 40

    def check(self, model: nn.Module) -> None:
        if not batch_norms(model):
            raise UserError("bn_stats: the network has no batch norm with statistics of its own; take channel_affine.")

    @torch.no_grad()
    def fit(
        self, model: nn.Module, device: Device, ages_s: tuple[float, float], data: FitData, seed: int, start: State
    ) -> State:
        low, high = (math.log(age_s) for age_s in ages_s)
        draw = torch.Generator().manual_seed(seed)
        batches, norms = data.training(seed), batch_norms(model)
        before = {name: (norm.momentum, norm.num_batches_tracked.clone()) for name, norm in norms.items()}
        state = {f"{n}/{kind}": getattr(norm, kind).clone() for n, norm in norms.items() for kind in _KINDS}
        with self.installed(model, state):
            try:
                for norm in norms.values():
                    norm.reset_running_stats()
                    norm.momentum = None  # a plain average over batches
                    norm.train()
                for step in range(self.batches):
                    age_s = math.exp(low + (high - low) * torch.rand((), generator=draw).item())
                    chip = Chip.program(model, device, fitting_chip(seed, step))
                    with chip.at(age_s, purpose="fitting"):
                        data.predict(model, next(batches))
                return {f"{n}/{k}": getattr(norm, k).half().float() for n, norm in norms.items() for k in _KINDS}
            finally:
                for name, norm in norms.items():
                    norm.eval()
                    norm.momentum, tracked = before[name]
                    norm.num_batches_tracked.copy_(tracked)

    @contextmanager
    def installed(self, model: nn.Module, state: State) -> Iterator[None]:
        norms = batch_norms(model)
        before = {name: [getattr(norm, kind).clone() for kind in _KINDS] for name, norm in norms.items()}
        try:
            for name, norm in norms.items():
                for kind in _KINDS:
                    getattr(norm, kind).copy_(state[f"{name}/{kind}"])
            yield
        finally:
            for name, norm in norms.items():
                for kind, value in zip(_KINDS, before[name], strict=True):
                    getattr(norm, kind).copy_(value)

    def cost(self, size: NetworkSize, levels: int) -> Cost:
        return Cost(
            bytes_stored=levels * 2 * size.norm_channels * 2,  # two vectors of half-precision floats
            extra_macs_percent=0.0,
            trainable_percent=100 * 2 * size.norm_channels / size.parameters,
        )
