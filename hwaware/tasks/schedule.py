"""Learning-rate schedules, stepped once per optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hwaware.errors import UserError


class WarmupCosine(LambdaLR):
    """Linear warm-up, then half a cosine down to a fraction of the learning rate after the last step.

    Args:
        optimizer: the optimiser whose learning rates are scaled.
        total_steps: optimiser steps of the whole run; a task takes them from its trainer.
        warmup_steps: steps until the full rate; 0: no warm-up.
        final_fraction: fraction of the full rate after the last step.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    >>> schedule = WarmupCosine(optimizer, total_steps=4, warmup_steps=2)
    >>> for _ in range(4):
    ...     optimizer.step(); print(round(schedule.get_last_lr()[0], 2)); schedule.step()
    0.5
    1.0
    1.0
    0.5
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final_fraction: float = 0.0
    ) -> None:
        _check(warmup_steps, final_fraction)

        def factor(done: float) -> float:
            return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * done))

        super().__init__(optimizer, _after_warmup(total_steps, warmup_steps, factor))


class WarmupLinear(LambdaLR):
    """Linear warm-up, then linear decay to zero after the last step, as in the finetuning of BERT.

    Args:
        optimizer: the optimiser whose learning rates are scaled.
        total_steps: optimiser steps of the whole run; a task takes them from its trainer.
        warmup_steps: steps until the full rate; 0: no warm-up.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> None:
        _check(warmup_steps)
        super().__init__(optimizer, _after_warmup(total_steps, warmup_steps, lambda done: 1 - done))


def _check(warmup_steps: int, final_fraction: float = 0.0) -> None:
    if warmup_steps < 0 or not 0 <= final_fraction <= 1:
        raise UserError(
            f"warmup_steps={warmup_steps} must be 0 or more, and final_fraction={final_fraction} in [0, 1]."
        )


def _after_warmup(total_steps: int, warmup_steps: int, factor: Callable[[float], float]) -> Callable[[int], float]:
    """Fraction of the full rate at each step: a linear rise, then a function of the progress after warm-up."""

    def at(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return factor(min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0))

    return at
