"""Criteria for chips: the accepted accuracy loss, the reported percentile, the required yield."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwaware.errors import UserError

#: Default loss (points below base digital) beyond which a chip is not good, and the lifetime ends.
LOSS_POINTS = 1.0

#: Confidence of one-sided bounds of a yield.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Criteria:
    """Criteria for chips.

    Attributes:
        loss_points: largest loss (points below base digital) of a good chip.
        percentile: percentile over chips that is reported beside the mean.
        yield_percent: required percentage of good chips; the lifetime ends when fewer are good. None: the lifetime ends
            when the mean over chips loses more than ``loss_points``.

    Raises:
        UserError: a value is out of range.
    """

    loss_points: float = LOSS_POINTS
    percentile: float = 5.0
    yield_percent: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.loss_points < 100:
            raise UserError(f"evaluation.loss_points={self.loss_points} must lie in (0, 100); 1 is usual.")
        if not 0 < self.percentile <= 50:
            raise UserError(f"evaluation.percentile={self.percentile} must lie in (0, 50]; 5 is usual.")
        if self.yield_percent is not None and not 0 < self.yield_percent <= 100:
            raise UserError(f"evaluation.yield_percent={self.yield_percent} must lie in (0, 100]; 99 is usual.")

    @property
    def chips_of_percentile(self) -> int:
        """Fewest chips for which the percentile is not beyond the worst chip."""
        return math.ceil(100 / self.percentile - 1e-9)

    @property
    def chips_of_yield(self) -> int | None:
        """Number of chips that, if all are good, prove the yield with 95 % confidence; None if no number does."""
        if self.yield_percent is None or self.yield_percent == 100:
            return None
        return math.ceil(math.log(1 - CONFIDENCE) / math.log(self.yield_percent / 100) - 1e-9)


CRITERIA = Criteria()


def yield_lower_bound(good: int, of: int) -> float:
    """Lower bound (percent) of the yield, with 95 % confidence (Clopper-Pearson), for ``good`` of ``of`` chips."""
    from scipy.special import betaincinv

    return 100 * float(betaincinv(good, of - good + 1, 1 - CONFIDENCE)) if good else 0.0
