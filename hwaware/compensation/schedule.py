"""The drift-aware schedule: a new set of parameters only when the one in use no longer reaches the target.

After VeRA+ (arXiv 2603.26016). Its procedure is not public: the logarithmic time grid, and the test of mean minus
standard deviation over simulated chips, are reconstructions. Works for every offline method.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from hwaware.chip import Chip, drift_free
from hwaware.compensation.base import FitData, OfflineCompensation, State
from hwaware.compensation.seeds import planning_chip
from hwaware.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """Settings of the schedule: when a new drift level begins.

    Attributes:
        target_percent: accuracy to keep, in percent of the drift-free accuracy.
        safety: margin of the mean above the target, in standard deviations over chips.
        instances: simulated chips per measurement.
        per_decade: evaluated ages per decade of time.
        youngest_s, oldest_s: first and last evaluated age (s).

    Raises:
        UserError: a value is out of range.
    """

    target_percent: float = 99.0
    safety: float = 1.0
    instances: int = 10
    per_decade: int = 2
    youngest_s: float = 1.0
    oldest_s: float = 315_360_000.0

    def __post_init__(self) -> None:
        if not 0 < self.target_percent < 100:
            raise UserError(
                f"schedule target_percent={self.target_percent} must lie in (0, 100): no repair is better than a chip "
                "without drift."
            )
        if not 0 < self.youngest_s < self.oldest_s:
            raise UserError(
                f"schedule youngest_s={self.youngest_s} must be above 0 and below oldest_s={self.oldest_s}."
            )
        for field, least in (("instances", 2), ("per_decade", 1)):
            if getattr(self, field) < least:
                raise UserError(f"schedule {field}={getattr(self, field)} must be at least {least}.")
        if not self.safety >= 0:
            raise UserError(f"schedule safety={self.safety} must be 0 or more standard deviations.")

    @property
    def grid_s(self) -> tuple[float, ...]:
        """The evaluated ages (s), evenly spaced on a logarithmic scale."""
        ratio = self.oldest_s / self.youngest_s
        steps = max(1, math.ceil(math.log10(ratio) * self.per_decade - 1e-9))
        return tuple(self.youngest_s * ratio ** (step / steps) for step in range(steps + 1))


@dataclass(frozen=True)
class Level:
    """One drift level.

    Attributes:
        start_s: age (s) from which its state is used, until the next level starts.
        state: state of the method; None: no repair is needed yet. The state of the previous level if the target is
            missed and a new fit did not help.
        mean, std: accuracy (percent) over simulated chips at ``start_s``, with this state.
        reached: whether the target is reached.
    """

    start_s: float
    state: State | None
    mean: float
    std: float
    reached: bool


@dataclass(frozen=True)
class Timetable:
    """All drift levels of a network, youngest first. In the field, only the age selects the level.

    Attributes:
        levels: the drift levels; the first starts at age 0.
        drift_free: drift-free accuracy (percent), which the target refers to; NaN if unknown.

    Raises:
        UserError: the levels do not start at age 0, or are not in order.
    """

    levels: tuple[Level, ...]
    drift_free: float = math.nan

    def __post_init__(self) -> None:
        starts = [level.start_s for level in self.levels]
        if not starts or starts != sorted(set(starts)) or starts[0] != 0:
            raise UserError(f"a timetable's levels must start at age 0 and be in order, but they start at {starts}.")

    @property
    def n_sets(self) -> int:
        """Number of states to store."""
        return len(self.states)

    @property
    def states(self) -> tuple[State, ...]:
        """The states of all levels, each once."""
        return tuple({id(level.state): level.state for level in self.levels if level.state is not None}.values())

    def at(self, age_s: float) -> Level:
        """The level in use at an age (s).

        Raises:
            UserError: the age is negative.
        """
        if not age_s >= 0:
            raise UserError(f"age_s={age_s} is before the chip was written.")
        return next(level for level in reversed(self.levels) if level.start_s <= age_s)


def plan(
    method: OfflineCompensation,
    model: nn.Module,
    schedule: Schedule,
    data: FitData,
    seed: int,
    on_age: Callable[[], None] = lambda: None,
) -> Timetable:
    """Goes through the ages and fits a new state whenever the current one falls below the target.

    Args:
        method: the method to fit, see :meth:`OfflineCompensation.fit`. Each fit starts from the previous state and
            covers the grid step that begins.
        model: a converted network in eval mode.
        schedule: target and ages.
        data: the data to fit on and to measure accuracy on.
        seed: seed of chips, which are neither those of fits nor those that results are reported on.
        on_age: called after each age, for progress.

    Returns:
        The timetable; its first level is the chip just after writing, without repair.

    Raises:
        UserError: the method does not apply to the network.
    """
    method.check(model)
    chips = [Chip.program(model, planning_chip(seed, number)) for number in range(schedule.instances)]

    @torch.no_grad()
    def measure(age_s: float, state: State | None) -> tuple[float, float, bool]:
        values = []
        for chip in chips:
            with chip.at(age_s, purpose="schedule"):
                if state is None:
                    values.append(data.accuracy(model))
                    continue
                with method.installed(model, state):
                    values.append(data.accuracy(model))
        mean, std = statistics.fmean(values), statistics.stdev(values)
        return mean, std, mean - schedule.safety * std >= target

    with torch.no_grad(), drift_free(model):
        exact = data.accuracy(model)
    target = schedule.target_percent / 100 * exact
    levels, grid = [Level(0.0, None, *measure(0.0, None))], schedule.grid_s
    for step, age_s in enumerate(grid):
        current = levels[-1].state
        mean, std, reached = measure(age_s, current)
        if not reached:
            ages_s = (age_s, grid[min(step + 1, len(grid) - 1)])
            state = method.fit(model, ages_s, data, 100 * seed + step, current or {})
            level = Level(age_s, state, *measure(age_s, state))
            # A set that does not help is not stored; the level records that the target is missed.
            levels.append(level if level.mean > mean else Level(age_s, current, mean, std, reached))
        on_age()
    return Timetable(tuple(levels), exact)
