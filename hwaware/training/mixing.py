"""Mixup and CutMix: training on mixtures of two images, whose targets are mixed alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from timm.data import Mixup

from hwaware.errors import UserError


@dataclass(frozen=True)
class Mixing:
    """Settings of Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899), by timm's own.

    Each batch is mixed with itself in reverse order, by one or the other (half of the batches each, where both are on),
    in a proportion drawn from Beta(α, α).

    Attributes:
        mixup_alpha: α of Mixup; 0 turns it off.
        cutmix_alpha: α of CutMix; 0 turns it off.
    """

    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0

    def __post_init__(self) -> None:
        for field in ("mixup_alpha", "cutmix_alpha"):
            if not 0 <= getattr(self, field) < math.inf:
                raise UserError(f"mixing {field}={getattr(self, field)} must be 0 (off) or more; 0.8 to 1 is usual.")
        if self.mixup_alpha == self.cutmix_alpha == 0:
            raise UserError("mixing mixup_alpha and cutmix_alpha are both 0: to mix nothing, set mixing null.")

    def mixer(self, num_classes: int) -> Mixup:
        """From images ``[N, C, H, W]``, which it overwrites, and labels to images and targets ``[N, num_classes]``.

        N must be even. Draws from numpy's global generator. Does not smooth: smoothing mixed targets is the same.
        """
        return Mixup(self.mixup_alpha, self.cutmix_alpha, label_smoothing=0.0, num_classes=num_classes)
