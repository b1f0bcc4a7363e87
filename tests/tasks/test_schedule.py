"""Learning-rate schedules against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from hwaware.errors import UserError
from hwaware.tasks import WarmupCosine, WarmupLinear


def rates(total: int, kind: type = WarmupCosine, **options) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule, found = kind(optimizer, total, **options), []
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


def test_warm_up_then_a_line_to_zero():
    """As transformers' own schedule of the name, but that its warm-up begins with a step at rate zero."""
    found = rates(10, WarmupLinear, warmup_steps=4)
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[4:] == pytest.approx([2 * (1 - step / 6) for step in range(7)] + [0])  # and stays there
    assert rates(4, WarmupLinear) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0, 0])


def test_warm_up_as_long_as_the_run():
    for kind in (WarmupCosine, WarmupLinear):
        assert rates(3, kind, warmup_steps=3)[:3] == pytest.approx([2 / 3, 4 / 3, 2])


def test_without_warm_up_it_starts_at_the_full_rate():
    assert rates(4)[0] == 2.0


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (WarmupCosine, {"warmup_steps": -1}),
        (WarmupCosine, {"final_fraction": 1.5}),
        (WarmupLinear, {"warmup_steps": -1}),
    ],
)
def test_wrong_settings(kind, options):
    with pytest.raises(UserError):
        kind(torch.optim.SGD([torch.zeros(1)], lr=1.0), 10, **options)
