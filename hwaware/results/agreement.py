"""How well a fitted law describes the readings that it was fitted to, by age and state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Cells of a state, at least, and readings at a limit, at most, whose moments count in the goodness of fit.
_FEW, _CUT_OFF = 8, 0.05


@dataclass(frozen=True)
class Agreement:
    """Cells of one target (or of neighbouring ones) at one age, as measured and as fitted; NaN: not measured.

    Attributes:
        time_s: the age.
        target_us: the target, or the mean of neighbouring ones, over all ages.
        cells: how many were read.
        measured_shift_us, fitted_shift_us: mean of conductance less target.
        measured_std_us, fitted_std_us: its standard deviation, a single read's; at age 0 with the noise that repeats
            then have.
        cut_off: share of readings at a limit.
        set_aside: share of readings that were set aside as outlying.
        extrapolated: whether the age is outside those measured.
    """

    time_s: float
    target_us: float
    cells: int
    measured_shift_us: float
    fitted_shift_us: float
    measured_std_us: float
    fitted_std_us: float
    cut_off: float
    set_aside: float
    extrapolated: bool


def misfit(rows: Sequence[Agreement]) -> tuple[float, float]:
    """Root mean square of measured less fitted means, and of standard deviations, in standard errors: 1 is perfect.

    States that are cut off are left out: their moments are no Gaussian's.
    """
    known = [one for one in rows if one.cells >= _FEW and one.cut_off <= _CUT_OFF and one.measured_std_us > 0]
    means = [(one.measured_shift_us - one.fitted_shift_us) / one.fitted_std_us * math.sqrt(one.cells) for one in known]
    stds = [math.log(one.measured_std_us / one.fitted_std_us) * math.sqrt(2 * one.cells) for one in known]
    of_means, of_stds = (math.sqrt(np.mean(np.square(one))) if one else math.nan for one in (means, stds))
    return of_means, of_stds
