"""Random numbers that do not depend on earlier steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hwaware.chip import VALIDATION_CHIP_SEED_START
from hwaware.errors import UserError
from hwaware.hardware.draws import seed_of


class SeedEachStep(Callback):
    """Re-seeds torch's and numpy's global generators before each training step by (seed, rank, step, micro-batch).

    Lightning does not store the states of generators. With this seeding, a step draws the same noise in a resumed run,
    activation checkpointing recomputes the same noise, and ranks draw different noise.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < VALIDATION_CHIP_SEED_START:
            raise UserError(
                f"seed_everything={seed} must lie in [0, {VALIDATION_CHIP_SEED_START}): seeds from there on belong to "
                "the chips of the evaluation."
            )
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        micro_batch = batch_idx % trainer.accumulate_grad_batches
        seed = step_seed(self.seed, trainer.global_rank, trainer.global_step, micro_batch)
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # timm's Mixup draws from it


def step_seed(seed: int, rank: int, step: int, micro_batch: int) -> int:
    """A seed in [0, 2⁶³), a hash of the arguments, the same on every machine."""
    return seed_of(f"{seed},{rank},{step},{micro_batch}")
