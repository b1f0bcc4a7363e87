"""Agreement of a fitted law with the readings that it was fitted to, by age and state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Fewest cells of a state for its moments to count in the goodness of fit.
FEW_CELLS = 8

#: Largest fraction of readings at a limit for the same.
_CUT_OFF = 0.05


@dataclass(frozen=True)
class Agreement:
    """Measured and fitted moments of the cells of one target (or of neighbouring targets) at one age; NaN: not
    measured.

    Attributes:
        time_s: the age (s).
        target_us: the target (µS), or the mean of neighbouring targets, over all ages.
        cells: number of cells that were read.
        measured_shift_us, fitted_shift_us: mean of conductance minus target (µS).
        measured_std_us, fitted_std_us: its standard deviation (µS) for a single read; at age 0 it includes the noise of
            repeated readings.
        cut_off: fraction of readings at a limit.
        set_aside: fraction of readings that were excluded as outliers.
        extrapolated: whether the age is outside the measured ages.
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
    """Root mean square of measured minus fitted means, and of standard deviations, in standard errors: 1 is perfect.

    States with readings at a limit are left out, since their moments are not those of a Gaussian.
    """
    known = [one for one in rows if one.cells >= FEW_CELLS and one.cut_off <= _CUT_OFF and one.measured_std_us > 0]
    means = [(one.measured_shift_us - one.fitted_shift_us) / one.fitted_std_us * math.sqrt(one.cells) for one in known]
    stds = [math.log(one.measured_std_us / one.fitted_std_us) * math.sqrt(2 * one.cells) for one in known]
    of_means, of_stds = (math.sqrt(np.mean(np.square(one))) if one else math.nan for one in (means, stds))
    return of_means, of_stds
