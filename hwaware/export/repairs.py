"""A planned repair in a bundle: its settings, its timetable, and the values of its drift levels.

A level's values are stored in half precision, or as integers of a few bits and a scale. Indices and masks are stored
unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation import Compensation, Level, OfflineCompensation, Schedule, Timetable
from hwaware.compensation.costs import Cost
from hwaware.compensation.names import method_named, name_in_files
from hwaware.compensation.quantise import codes
from hwaware.errors import UserError
from hwaware.hardware.devices.registry import typed


@dataclass(frozen=True)
class PlannedRepair:
    """A repair that is shipped with a chip.

    Attributes:
        method: an offline method.
        timetable: its drift levels.
        cost: cost of all levels.
        schedule: the schedule of the timetable.
    """

    method: OfflineCompensation
    timetable: Timetable
    cost: Cost
    schedule: Schedule

    def __call__(self, chip: Chip, age_s: float) -> AbstractContextManager[None]:
        """Context in which a chip's network runs with the timetable's repair at an age (s)."""
        state = self.timetable.at(age_s).state
        if state is None:
            return nullcontext()
        device = next(chip.model.parameters()).device
        return self.method.installed(chip.model, {name: value.to(device) for name, value in state.items()})


def settings_of(method: Compensation) -> dict[str, Any]:
    """A repair's settings as plain types, from which :func:`method_from` builds it again.

    Raises:
        UserError: a bundle can't store it: it is not a dataclass, has a setting of another type, or can't be rebuilt
            from its settings.
    """
    name = name_in_files(type(method))
    if not is_dataclass(method):
        raise UserError(f"repair '{name}' is not a dataclass, so a bundle can't store its settings.")
    found = {
        one.name: _plain(getattr(method, one.name), f"setting {one.name} of repair '{name}'")
        for one in fields(method)
        if one.init
    }
    try:
        again = method_from(type(method), found)
    except (TypeError, ValueError) as error:
        raise UserError(f"repair '{name}' can't be rebuilt from its own settings: {error}") from None
    if again != method:
        raise UserError(f"repair '{name}' differs when rebuilt from its settings: does it change or extend them?")
    return found


def method_from(kind: type[Compensation], settings: Mapping[str, Any]) -> Any:
    """Builds a repair, or a setting that is a dataclass, from the output of :func:`settings_of`."""
    kinds = get_type_hints(kind)
    values = {}
    for key, value in settings.items():
        if is_dataclass(inner := kinds.get(key)) and isinstance(value, Mapping):
            values[key] = method_from(inner, value)  # type: ignore[arg-type]
        else:
            values[key] = typed(value, kinds[key], key) if key in kinds else value  # the class refuses unknown ones
    return kind(**values)


def stored_repair(prefix: str, repair: PlannedRepair, model: nn.Module, stored: dict[str, Tensor]) -> dict[str, Any]:
    """A repair's entry in the manifest; its values are added to ``stored``, under keys that begin with ``prefix``.

    Raises:
        UserError: a value is not finite in half precision; see also :func:`settings_of`.
    """
    method = repair.method
    for name, tensor in method.shared(model).items():
        stored[f"{prefix}/shared/{name}"] = tensor.cpu()
    timetable, numbers = [], {}
    for number, state in enumerate(repair.timetable.states):
        numbers[id(state)] = str(number)
        for name, value in state.items():
            key = f"{prefix}/{number}/{name}"
            if not value.is_floating_point():
                stored[key] = value.cpu()
            elif method.bits is None:
                stored[key] = value.half().cpu()
                if not stored[key][value.isfinite().cpu()].isfinite().all():
                    most = value[value.isfinite()].abs().max()
                    raise UserError(
                        f"{method.name}: '{name}' reaches {most:.3g}, which half precision can't represent."
                    )
            else:
                whole, scale = codes(value.cpu(), method.bits)
                stored |= {f"{key}/codes": whole, f"{key}/scale": scale.half()}
    for level in repair.timetable.levels:
        planned = {what: getattr(level, what) for what in ("start_s", "mean", "std", "reached")}
        timetable.append(planned | {"level": numbers.get(id(level.state))})
    return {
        "key": prefix,
        "method": name_in_files(type(method)),
        "params": settings_of(method),
        "schedule": asdict(repair.schedule),
        "cost": asdict(repair.cost),
        "timetable": timetable,
        "drift_free": repair.timetable.drift_free,
    }


def read_repair(entry: dict[str, Any], stored: Mapping[str, Tensor]) -> PlannedRepair:
    """Reads an entry of :func:`stored_repair`.

    Raises:
        UserError: the method is unknown, or its module was not imported yet.
        ValueError: the method is not fitted offline.
    """
    kind = method_named(entry["method"])
    if not issubclass(kind, OfflineCompensation):
        raise ValueError(f"the method {entry['method']} is not fitted offline")
    method, levels = method_from(kind, entry["params"]), []
    states: dict[str | None, dict[str, Tensor] | None] = {None: None}
    for line in entry["timetable"]:
        if line["level"] not in states:
            states[line["level"]] = _read_state(f"{entry['key']}/{line['level']}/", method, stored)
        accuracy = (number_of(line["mean"]), number_of(line["std"]))
        levels.append(Level(line["start_s"], states[line["level"]], *accuracy, line["reached"]))
    timetable = Timetable(tuple(levels), number_of(entry["drift_free"]))
    return PlannedRepair(method, timetable, Cost(**entry["cost"]), Schedule(**entry["schedule"]))


def _read_state(prefix: str, method: OfflineCompensation, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    own = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
    for key, value in own.items():
        coded = method.bits is not None and key.endswith("/codes")
        if coded:
            name = key.removesuffix("/codes")
            state[name] = value.float() * own[f"{name}/scale"].float()
        elif not value.is_floating_point():
            state[key] = value
        elif method.bits is None:
            state[key] = value.float()
    return state


def for_json(value: Any) -> Any:
    """Replaces values that JSON lacks: NaN becomes null, infinities become the texts ``inf`` and ``-inf``."""
    if isinstance(value, Mapping):
        return {key: for_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def number_of(value: Any) -> float:
    """A number from JSON, with the replacements of :func:`for_json` undone."""
    return math.nan if value is None else float(value)


def _plain(value: Any, what: str) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one, what) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one, what) for key, one in value.items()}
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name), what) for one in fields(value) if one.init}
    raise UserError(f"{what} is of the type {type(value).__name__}, which a bundle can't store: use numbers and texts.")
