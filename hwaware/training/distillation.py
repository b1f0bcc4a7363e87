"""Knowledge distillation: a network learns the outputs of the exact digital network, not only labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hwaware.errors import UserError


@dataclass(frozen=True)
class Distillation:
    """Settings of the distillation loss ``(1 - a)·L + a·T²·KL(teacher ‖ student)``, softmaxes at temperature T.

    Hinton et al., arXiv 1503.02531; used for ReRAM with T = 2 by G. Charan et al., JXCDC 2020
    (10.1109/JXCDC.2020.2987605), who do not state the weight.

    Attributes:
        temperature: temperature T.
        weight: weight a of the distillation in the loss; 1 ignores the labels.
    """

    temperature: float = 2.0
    weight: float = 0.9

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"distillation temperature={self.temperature} must be above 0 (2 is usual).")
        if not 0 < self.weight <= 1:
            raise UserError(f"distillation weight={self.weight} must lie in (0, 1]; null turns distillation off.")


def distillation_loss(
    student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor], temperature: float
) -> Tensor:
    """``T²·KL(softmax(teacher/T) ‖ softmax(student/T))``, averaged over samples and over outputs.

    Args:
        student, teacher: logits ``[N, C]``, or several of them (start and end of an answer).
        temperature: temperature T.

    Returns:
        A scalar in single precision.
    """
    losses = []
    for ours, theirs in zip(_several(student), _several(teacher), strict=True):
        if ours.shape != theirs.shape:
            raise UserError(f"the teacher has {theirs.shape[-1]} outputs, the student {ours.shape[-1]}.")
        ours, theirs = (F.log_softmax(logits.float() / temperature, dim=-1) for logits in (ours, theirs))
        losses.append(F.kl_div(ours, theirs, reduction="batchmean", log_target=True))
    return temperature**2 * torch.stack(losses).mean()


def _several(outputs: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs
