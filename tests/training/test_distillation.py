"""The distillation loss against torch's own divergence and against hand-made cases."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from hwaware.errors import UserError
from hwaware.training import Distillation, distillation_loss

LOGITS = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_it_is_the_divergence_of_the_softened_answers(temperature):
    student, teacher = LOGITS
    wanted = kl_divergence(Categorical(logits=teacher / temperature), Categorical(logits=student / temperature)).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, temperature), temperature**2 * wanted)


def test_gradients_keep_their_size_as_the_temperature_grows():
    """T² makes up for the softmaxes' 1/T each: at a high temperature the gradient is that of half the squared
    difference of centred logits over the classes."""
    student, teacher = LOGITS[0].clone().requires_grad_(True), LOGITS[1]
    distillation_loss(student, teacher, 1e3).backward()
    difference = student.detach() - teacher
    wanted = (difference - difference.mean(-1, keepdim=True)) / 7 / 5
    torch.testing.assert_close(student.grad, wanted, rtol=0.02, atol=1e-4)


def test_several_outputs_are_averaged():
    pair = distillation_loss([LOGITS[0], LOGITS[1]], [LOGITS[1], LOGITS[1]], 2.0)
    torch.testing.assert_close(pair, distillation_loss(LOGITS[0], LOGITS[1], 2.0) / 2)


def test_half_precision_is_computed_in_single():
    loss = distillation_loss(LOGITS[0].bfloat16(), LOGITS[1].bfloat16(), 2.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, distillation_loss(*LOGITS, 2.0), rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Distillation(temperature=0.0), "temperature=0.0 must be above 0"),
        (lambda: Distillation(weight=0.0), "weight=0.0 must lie in"),
        (lambda: distillation_loss(LOGITS[0], LOGITS[1][:, :3], 2.0), "the teacher has 3 outputs, the student 7"),
    ],
)
def test_bad_input(make, reason):
    with pytest.raises(UserError, match=reason):
        make()
