"""What may share a table or figure, and what tells its lines apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeVar

from hwaware.hardware.temperature import is_extrapolated

Item = TypeVar("Item")

#: What makes two lines of one table or figure.
LINE = ("recipe", "network", "method", "method_params")


@cache  # thousands of rows have the same few texts
def params_of(text: str) -> Mapping[str, Any]:
    """The parameters that a row's ``device_params`` or ``method_params`` names, read-only.

    Raises:
        ValueError: the text is no JSON object.
    """
    params = json.loads(text)
    if not isinstance(params, dict):
        raise ValueError("not an object")
    return MappingProxyType(params)


@dataclass(frozen=True)
class DeviceLabels:
    """What holds a network, as results name it.

    Attributes:
        device: the name of the memory technology.
        device_params: its parameters, and those of what else the network stands on, as a JSON object.
        mapping: how a weight is laid into cells; empty for a device alone.
    """

    device: str
    device_params: str
    mapping: str

    @property
    def params(self) -> Mapping[str, Any]:
        """What ``device_params`` says."""
        return params_of(self.device_params)

    def extrapolates(self, age_s: float) -> bool:
        """Whether no cell was read at so great an age (s), or at so small a one above 0, for the device's constants."""
        at = self.params.get
        return is_extrapolated(age_s, at("measured_s"), at("temperature_c"), at("activation_energy_ev"))


@dataclass(frozen=True)
class Setting(DeviceLabels):
    """What must be equal for two accuracies to stand in one table or figure.

    Attributes:
        model, dataset, metric: names.
        n_samples: that the metric is of.
    """

    model: str
    dataset: str
    metric: str
    n_samples: int

    @staticmethod
    def of(item: Any) -> Setting:
        """The setting of a row, or of a summary of rows."""
        return Setting(*_SETTING(item))


SETTING = tuple(Setting.__dataclass_fields__)
_SETTING = attrgetter(*SETTING)


def group_by(items: Iterable[Item], names: Sequence[str]) -> dict[Any, list[Item]]:
    """Items by the values of the named fields (of several a tuple), in order of first appearance."""
    key = attrgetter(*names)
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_setting(items: Iterable[Item]) -> dict[Setting, list[Item]]:
    """Rows, or summaries, by setting, in order of first appearance."""
    return {Setting(*key): same for key, same in group_by(items, SETTING).items()}
