"""Applies a compensation method in an evaluation: repairs one chip at one age."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip, drift_free, mean_aged
from hwaware.compensation.base import (
    AUTO,
    DRIFT_FREE,
    MEAN_AGED,
    Compensation,
    FitData,
    InFieldCompensation,
    OfflineCompensation,
    State,
)
from hwaware.compensation.costs import Cost, NetworkSize
from hwaware.compensation.schedule import Level, Schedule, Timetable, plan
from hwaware.errors import UserError
from hwaware.results.refused import Refusal
from hwaware.results.repairs import both_names

#: Progress of a fit: takes a description and the number of steps, gives a context that yields a callback per step.
Fitting = Callable[[str, int | None], AbstractContextManager[Callable[[], None]]]

#: Batch size and number of batches of stored samples for checking an in-field repair before it is installed.
_JUDGED, _PARTS = 100, 5

#: Training batches on which the two networks that a chip may be calibrated towards are compared.
_COMPARED = 8


def _untold(what: str, total: int | None) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


class Repair:
    """One compensation method for one converted network; pass it to :func:`hwaware.evaluate` as ``repaired``.

    An offline method has one state per drift level. Levels come from a schedule, or else each given age ends a level.
    States are fitted when a chip first needs one, each starting from the state of the previous level. An in-field
    method has a state per chip and age. It is not installed if it would raise the error of the network's last output on
    the stored samples. A chip just written (age 0) is not repaired.

    Attributes:
        refused: the chips and ages at which a repair was not installed, with the errors.

    Args:
        method: the compensation method.
        model: the converted network that the chips hold, in eval mode.
        ages_s: all ages (s) that will be evaluated.
        data: the data to fit on.
        seed: seed of offline fits; see :class:`OfflineCompensation`.
        schedule: schedule of drift levels; None: one level for each age.

    Raises:
        UserError: the method does not apply to the network.
    """

    def __init__(
        self,
        method: Compensation,
        model: nn.Module,
        ages_s: Sequence[float],
        data: FitData,
        seed: int,
        schedule: Schedule | None = None,
    ) -> None:
        method.check(model)
        self.method, self.model, self.data, self.seed = method, model, data, seed
        self.schedule = schedule
        self.refused: list[Refusal] = []
        self._wanted: dict[float, list[Any]] = {}
        self._targets: dict[float, str] = {}
        self._exact_loss: float | None = None
        self._ends = sorted({float(age_s) for age_s in ages_s if age_s > 0})
        self._states: dict[float, State] = {}
        self._timetable: Timetable | None = None

    def __call__(self, chip: Chip, age_s: float) -> AbstractContextManager[None]:
        """Context in which a chip is repaired at an age (s); an in-field method calibrates it first."""
        if age_s == 0:
            return nullcontext()
        state: State | None
        if isinstance(self.method, InFieldCompensation):
            method = self._in_field(age_s)
            state = method.fit(chip, age_s, self.data)
            if method.samples_kept and not self._helps(method, chip, age_s, state):
                state = None
        elif self.schedule is not None:
            state = self.timetable.at(age_s).state
        else:
            state = self._level(age_s)
        return nullcontext() if state is None else self.method.installed(self.model, state)

    def _in_field(self, age_s: float) -> InFieldCompensation:
        """The method for chips of an age (s), with its targets chosen."""
        assert isinstance(self.method, InFieldCompensation)  # for the type checker
        if self.method.targets != AUTO:
            return self.method
        if age_s not in self._targets:
            if self._exact_loss is None:
                self._exact_loss = self._loss(drift_free(self.model))
            aged = self._loss(mean_aged(self.model, age_s))
            self._targets[age_s] = MEAN_AGED if aged < self._exact_loss else DRIFT_FREE
        return replace(self.method, targets=self._targets[age_s])  # type: ignore[type-var]

    @torch.no_grad()
    def _loss(self, network: AbstractContextManager[nn.Module]) -> float:
        """Mean loss of a network on a few training batches."""
        with network as model:
            losses = [self.data.loss(model, batch) for batch in islice(self.data.training(self.seed), _COMPARED)]
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def _helps(self, method: InFieldCompensation, chip: Chip, age_s: float, state: State) -> bool:
        """Whether a state does not raise the error of the last output; if it does, records it in ``refused``."""

        def answers() -> list[Any]:
            stored = self.data.calibration_batches(method.samples_kept, _JUDGED)
            return [self.data.predict(self.model, batch) for batch in islice(stored, _PARTS)]

        if age_s not in self._wanted:
            with method.wanted(self.model, age_s):
                self._wanted[age_s] = answers()
        with chip.at(age_s, purpose="calibration"):
            before = self._error(answers(), age_s)
            with method.installed(self.model, state):
                after = self._error(answers(), age_s)
        if not after <= before:
            self.refused.append(Refusal(chip.seed, age_s, before, after))
        return after <= before

    def _error(self, answers: Sequence[Any], age_s: float) -> float:
        """Mean divergence of outputs from the wanted ones; infinite if they are not finite."""
        found = [self.data.divergence(one, wanted) for one, wanted in zip(answers, self._wanted[age_s], strict=True)]
        error = torch.stack(found).mean().item()
        return math.inf if math.isnan(error) else error

    def prepare(self, shared: Callable[[State], State] = lambda state: state, fitting: Fitting = _untold) -> None:
        """Fits all offline states in advance.

        Args:
            shared: broadcasts a state from the first process to all, so that chips are repaired alike even if the
                computation is not deterministic. All processes must then call this method.
            fitting: reports progress: takes a description and the number of steps.
        """
        if not isinstance(self.method, OfflineCompensation):
            return
        if self.schedule is None:
            for number, age_s in enumerate(self._ends, start=1):
                level = f", level {number} of {len(self._ends)}" * (len(self._ends) > 1)
                with fitting(f"fitting {both_names(self.method.name)}{level}", _n_batches(self.method)) as advance:
                    self._states[age_s] = shared(self._level(age_s, advance))
            return
        ages = len(self.schedule.grid_s)
        with fitting(f"planning {both_names(self.method.name)}: {ages} ages", ages) as advance:
            table = self._planned(advance)
        states = {id(state): shared(state) for state in table.states}
        levels = tuple(replace(level, state=states.get(id(level.state))) for level in table.levels)
        self._timetable = replace(table, levels=levels)

    @property
    def params(self) -> str:
        """The method's settings as a JSON object for ``method_params``.

        They include those of the schedule and, if the method is distilled, the weight and temperature of distillation.
        """
        settings = json.loads(self.method.params)
        if self.method.by_loss and self.data.distillation:
            settings |= {"distillation": self.data.distillation, "distillation_temperature": self.data.temperature}
        if self.schedule is not None and isinstance(self.method, OfflineCompensation):
            settings |= asdict(self.schedule)
        return json.dumps(settings, sort_keys=True)

    @property
    def timetable(self) -> Timetable:
        """The drift levels of the schedule.

        Raises:
            UserError: there is no schedule, or the method is fitted in the field.
        """
        return self._planned()

    def _planned(self, on_age: Callable[[], None] = lambda: None) -> Timetable:
        if self._timetable is None:
            if self.schedule is None or not isinstance(self.method, OfflineCompensation):
                raise UserError(f"{self.method.name} has no schedule of drift levels here, so it has no timetable.")
            self._timetable = plan(self.method, self.model, self.schedule, self.data, self.seed, on_age)
        return self._timetable

    @property
    def levels(self) -> tuple[Level, ...]:
        """The drift levels of the schedule; empty without one."""
        return self.timetable.levels if self.schedule and isinstance(self.method, OfflineCompensation) else ()

    @property
    def n_sets(self) -> int:
        """Number of states to store: one per level, or one for the chip."""
        if not isinstance(self.method, OfflineCompensation):
            return 1
        return self.timetable.n_sets if self.schedule is not None else len(self._ends)

    def cost(self, size: NetworkSize) -> Cost:
        """Cost for a network of a given size. A cost that depends on the chip is that of the first reported chip."""
        cost = self.method.cost(size, self.n_sets)
        if not isinstance(self.method, InFieldCompensation):
            return cost
        if not self._ends or type(self.method).counted is InFieldCompensation.counted:
            return cost
        chip = Chip.program(self.model, CHIP_SEED_START)
        return self.method.counted(cost, self._in_field(self._ends[-1]).fit(chip, self._ends[-1], self.data))

    def _level(self, age_s: float, on_batch: Callable[[], None] = lambda: None) -> State:
        if age_s not in self._states:
            if not isinstance(self.method, OfflineCompensation) or age_s not in self._ends:
                raise UserError(f"age_s={age_s} is not an age that {self.method.name} is fitted for: {self._ends}.")
            place = self._ends.index(age_s)
            youngest = self._ends[place - 1] if place else age_s
            start = self._level(youngest) if place else {}
            ages_s, seed = (youngest, age_s), 100 * self.seed + place
            data = replace(self.data, training=lambda own: _counted(self.data.training(own), on_batch))
            self._states[age_s] = self.method.fit(self.model, ages_s, data, seed, start)
        return self._states[age_s]


def _n_batches(method: OfflineCompensation) -> int | None:
    """Number of training batches of a fit; None if the method has no such setting."""
    return getattr(method, "steps", None) or getattr(method, "batches", None)


def _counted(batches: Iterator[Any], on_batch: Callable[[], None]) -> Iterator[Any]:
    for batch in batches:
        yield batch
        on_batch()
