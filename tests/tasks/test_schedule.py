"""The learning-rate schedule against its closed form."""

from __future__ import annotations

import math

import pytest
import torch

from hwaware.errors import UserError
from hwaware.tasks import WarmupCosine


def rates(total: int, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule, found = WarmupCosine(optimizer, total, **options), []
    for _ in range(total + 2):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_warm_up_then_half_a_cosine_to_the_final_fraction():
    found = rates(10, warmup_steps=4, final_fraction=0.1)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    expected = [2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / 6))) for step in range(7)]
    assert found[4:11] == pytest.approx(expected)
    assert found[11] == pytest.approx(0.2)  # stays there


def test_without_warm_up_it_starts_at_the_full_rate():
    assert rates(4)[0] == 2.0


@pytest.mark.parametrize("options", [{"warmup_steps": -1}, {"final_fraction": 1.5}])
def test_wrong_settings(options):
    with pytest.raises(UserError):
        WarmupCosine(torch.optim.SGD([torch.zeros(1)], lr=1.0), 10, **options)
