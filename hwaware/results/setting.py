"""Settings: which rows may share a table or figure, and what distinguishes its lines."""

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

#: The fields that distinguish the lines of a table or figure.
LINE = ("recipe", "network", "method", "method_params")


@cache  # thousands of rows share a few texts
def params_of(text: str) -> Mapping[str, Any]:
    """The parameters in a row's ``device_params`` or ``method_params``, read-only.

    Raises:
        ValueError: the text is not a JSON object.
    """
    params = json.loads(text)
    if not isinstance(params, dict):
        raise ValueError("not an object")
    return MappingProxyType(params)


@dataclass(frozen=True)
class DeviceLabels:
    """The hardware of a network, as results name it.

    Attributes:
        device: name of the memory technology.
        device_params: parameters of device, encoding and crossbar, as a JSON object.
        mapping: name of the mapping; empty for a device alone.
    """

    device: str
    device_params: str
    mapping: str

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters in ``device_params``."""
        return params_of(self.device_params)

    def extrapolates(self, age_s: float) -> bool:
        """Whether an age (s) lies outside the ages at which the device's constants were measured."""
        at = self.params.get
        return is_extrapolated(age_s, at("measured_s"), at("temperature_c"), at("activation_energy_ev"))


@dataclass(frozen=True)
class Setting(DeviceLabels):
    """The fields that must be equal for two accuracies to share a table or figure.

    Attributes:
        model, dataset, metric: names.
        n_samples: number of samples of the metric.
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
    """Items by the values of the named fields (a tuple for several), in order of first appearance."""
    key = attrgetter(*names)
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_setting(items: Iterable[Item]) -> dict[Setting, list[Item]]:
    """Rows, or summaries, by setting, in order of first appearance."""
    return {Setting(*key): same for key, same in group_by(items, SETTING).items()}
