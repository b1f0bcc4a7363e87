"""By what chips are judged: the loss that is small, the percentile that is reported, the yield that is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwaware.errors import UserError

#: Points below base digital at which a chip no longer counts as good, and a network's life ends, by default.
LOSS_POINTS = 1.0

#: Of one-sided bounds of a yield.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Criteria:
    """What is asked of chips.

    Attributes:
        loss_points: points that a good chip may lie below base digital.
        percentile: the chip that is reported beside the mean: so many percent of the chips are less accurate.
        yield_percent: chips (percent) that have to be good; a network's life then ends where fewer are. None: it ends
            where the mean over chips falls below that of a good chip.

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
        """Chips without which the percentile would lie beyond the worst one: one over its share."""
        return math.ceil(100 / self.percentile - 1e-9)

    @property
    def chips_of_yield(self) -> int | None:
        """Good chips, and no other, that show the yield with 95 % confidence; None where no number does."""
        if self.yield_percent is None or self.yield_percent == 100:
            return None
        return math.ceil(math.log(1 - CONFIDENCE) / math.log(self.yield_percent / 100) - 1e-9)


CRITERIA = Criteria()


def sure_yield(good: int, of: int) -> float:
    """The yield (percent) that so many good chips show with 95 % confidence (Clopper and Pearson's lower bound)."""
    from scipy.special import betaincinv

    return 100 * float(betaincinv(good, of - good + 1, 1 - CONFIDENCE)) if good else 0.0
