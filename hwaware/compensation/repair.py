"""From a method to what an evaluation asks of it: the repair of one chip at one age."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import nn

from hwaware.chip import Chip
from hwaware.compensation.base import Compensation, FitData, OfflineCompensation, State
from hwaware.devices import Device
from hwaware.errors import UserError

Repaired = Callable[[Chip, float], AbstractContextManager[None]]
"""Given a chip and the age (s) at which it is to run: may calibrate it, and gives the context of its repair."""


def repairing(
    method: Compensation, model: nn.Module, device: Device, ages_s: Sequence[float], data: FitData, seed: int
) -> Repaired:
    """What :func:`hwaware.evaluation.evaluate` takes as ``repaired``.

    A method that is fitted offline gets one state for each drift level, which ends at one of the ages and starts at the
    one before; it is fitted when a chip first asks for it, from the state of the level before. A method that is fitted
    in the field gets one for each chip and age. A chip just written (age 0) is not repaired.

    Args:
        method: how to repair.
        model: the converted network that the chips hold, in eval mode.
        device: the chips' technology.
        ages_s: all ages (s) that will be asked for.
        data: what to learn from.
        seed: of offline fits; see :class:`OfflineCompensation`.

    Raises:
        UserError: the method does not apply to the network.
    """
    method.check(model)
    ends = sorted(age_s for age_s in ages_s if age_s > 0)
    states: dict[float, State] = {0.0: {}}

    def level(age_s: float) -> State:
        if age_s not in states:
            if age_s not in ends:
                raise UserError(f"age_s={age_s} is none of the ages that {method.name} was to be fitted for: {ends}.")
            place = ends.index(age_s)
            youngest = ends[place - 1] if place else age_s
            start = level(youngest) if place else {}
            states[age_s] = method.fit(model, device, (youngest, age_s), data, 100 * seed + place, start)
        return states[age_s]

    def repaired(chip: Chip, age_s: float) -> AbstractContextManager[None]:
        if age_s == 0:
            return nullcontext()
        state = level(age_s) if isinstance(method, OfflineCompensation) else method.fit(chip, age_s, data)
        return method.installed(model, state)

    return repaired
