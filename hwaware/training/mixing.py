"""Mixup and CutMix: training on mixtures of two images, with targets mixed in the same proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

from timm.data import Mixup

from hwaware.errors import UserError


@dataclass(frozen=True)
class Mixing:
    """Settings of Mixup (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899), as in timm.

    Each batch is mixed with itself in reverse order, in a proportion drawn from Beta(α, α). If both are on, each is
    used for half of the batches.

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
            raise UserError("mixing mixup_alpha and cutmix_alpha are both 0: set mixing null to turn mixing off.")

    def mixer(self, num_classes: int) -> Mixup:
        """A function from images ``[N, C, H, W]`` and labels ``[N]`` to mixed images and targets ``[N, num_classes]``.

        It overwrites the images. N must be even. It draws from numpy's global generator, and does not smooth labels:
        the loss smooths the mixed targets, which is equivalent.
        """
        return Mixup(self.mixup_alpha, self.cutmix_alpha, label_smoothing=0.0, num_classes=num_classes)
