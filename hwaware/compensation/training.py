"""Offline training of a few vectors on fresh simulated chips; the network's weights are frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count, islice

import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.compensation.access import frozen
from hwaware.compensation.base import FitData, OfflineCompensation, State
from hwaware.compensation.seeds import fitting_chip


def fresh_chips(model: nn.Module, ages_s: tuple[float, float], seed: int) -> Iterator[tuple[Chip, float]]:
    """Endless simulated chips to fit on, each with an age (s) that is log-uniform between youngest and oldest."""
    low, high = (math.log(age_s) for age_s in ages_s)
    draw = torch.Generator().manual_seed(seed)
    for step in count():
        age_s = math.exp(low + (high - low) * torch.rand((), generator=draw).item())
        yield Chip.program(model, fitting_chip(seed, step)), age_s


#: Number of batches, each with its own chip, for choosing between starting points.
_TRIALS = 4


@torch.no_grad()
def best_start(
    method: OfflineCompensation,
    model: nn.Module,
    ages_s: tuple[float, float],
    data: FitData,
    seed: int,
    candidates: Sequence[State],
) -> State:
    """The candidate with the lowest task loss on a few fresh chips at the oldest age of the level."""
    losses, batches = [0.0] * len(candidates), data.training(seed)
    for trial in range(_TRIALS):
        batch = next(batches)
        chip = Chip.program(model, fitting_chip(seed, -1 - trial))
        with chip.at(ages_s[1], purpose="fitting"):
            for number, state in enumerate(candidates):
                with method.installed(model, state):
                    losses[number] += data.loss(model, batch).item()
    return candidates[min(range(len(candidates)), key=losses.__getitem__)]


def train_vectors(
    method: OfflineCompensation,
    model: nn.Module,
    ages_s: tuple[float, float],
    data: FitData,
    seed: int,
    start: State,
    *,
    steps: int,
    lr: float,
) -> State:
    """Minimises the task loss over a state with Adam; each step uses a fresh chip at a log-uniform age.

    Args:
        method: the method that applies the state.
        start: initial values; not modified.
        steps, lr: optimiser steps, and initial learning rate, which decays to zero along half a cosine.
        Others: see :meth:`OfflineCompensation.fit`.

    Returns:
        The trained state, detached.
    """
    state = {name: value.detach().clone().requires_grad_(True) for name, value in start.items()}
    optimizer = torch.optim.Adam(state.values(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches, chips = data.training(seed), fresh_chips(model, ages_s, seed)
    with frozen(model), torch.enable_grad():
        for chip, age_s in islice(chips, steps):
            with chip.at(age_s, purpose="fitting"), method.installed(model, state):
                loss = data.loss(model, next(batches))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return {name: value.detach() for name, value in state.items()}
