"""Noise depends on (seed, rank, step, micro-batch) and on nothing that ran before."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwaware.callbacks import SeedEachStep
from hwaware.callbacks.seeding import step_seed
from hwaware.errors import UserError


def drawn(seed: int = 0, rank: int = 0, step: int = 0, batch: int = 0, accumulate: int = 2) -> float:
    trainer = SimpleNamespace(global_rank=rank, global_step=step, accumulate_grad_batches=accumulate)
    torch.rand(7), np.random.rand(7)  # whatever ran before
    SeedEachStep(seed).on_train_batch_start(trainer, None, None, batch)
    return torch.rand(()).item() + np.random.rand()


def test_repeats_and_differs():
    assert drawn(1, 2, 3, 1) == drawn(1, 2, 3, 1)
    assert len({drawn(), drawn(seed=1), drawn(rank=1), drawn(step=1), drawn(batch=1)}) == 5
    assert drawn(batch=1) == drawn(batch=3)  # a micro-batch's place within its step, wherever the epoch began


def test_seeds_do_not_collide():
    seeds = {step_seed(*key) for key in itertools.product(range(3), range(4), range(200), range(2))}
    assert len(seeds) == 3 * 4 * 200 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_training_seeds_stay_below_the_chips():
    with pytest.raises(UserError, match="1000000"):
        SeedEachStep(1_000_000)
