"""Uncertainty of a device's constants: the constants of fits to cells drawn with replacement (bootstrap)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from hwaware.errors import UserError, nearest
from hwaware.hardware.draws import hashed

if TYPE_CHECKING:
    from hwaware.hardware.devices.device import Device

#: An index into a field that is a nested list: ``std_us[0][3]``.
_PLACE = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True)
class Bootstrap:
    """Constants of one law from several fits, each to another draw of the cells.

    Attributes:
        names: fields of the law, with indices for lists: ``std_us[0][3]``.
        values: for each fit, one value per name.

    Raises:
        UserError: there are no names or fewer than two fits, or a value is missing or not finite.
    """

    names: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise UserError(f"bootstrap.names={list(self.names)} must name at least one constant, each once.")
        if len(self.values) < 2:
            raise UserError(f"bootstrap.values has {len(self.values)} fits: at least 2 are needed.")
        for number, one in enumerate(self.values):
            if len(one) != len(self.names) or not all(map(math.isfinite, one)):
                raise UserError(
                    f"bootstrap.values[{number}]={list(one)} must be {len(self.names)} finite numbers, one for each of "
                    "bootstrap.names."
                )

    @classmethod
    def of(cls, devices: list[Device]) -> Bootstrap | None:
        """Collects the constants that differ between devices of one law; None if none differ."""
        every = [dict(_numbers(device)) for device in devices]
        names = tuple(name for name in every[0] if len({one[name] for one in every}) > 1)
        if not names:
            return None
        return cls(names, tuple(tuple(float(f"{one[name]:.6g}") for name in names) for one in every))

    def without(self, given: set[str]) -> Bootstrap | None:
        """Drops the constants of these fields, which are known exactly; None if nothing is left."""
        kept = [place for place, name in enumerate(self.names) if _PLACE.sub("", name) not in given]
        if not kept:
            return None
        names, *values = (tuple(one[place] for place in kept) for one in (self.names, *self.values))
        return Bootstrap(names, tuple(values))  # type: ignore[arg-type] # the first is of names

    def check(self, device: Device) -> None:
        """Raises UserError if a name is not a numeric constant of the device, or a fit's constants are invalid."""
        known = dict(_numbers(device))
        for name in self.names:
            if name not in known:
                raise UserError(f"device '{device.name}' has no number '{name}' (bootstrap). {nearest(name, known)}")
        for number in range(len(self.values)):
            try:
                self.device(device, number)
            except UserError as error:
                raise UserError(f"bootstrap.values[{number}]: {error}") from None

    def device(self, device: Device, number: int) -> Device:
        """The device with the constants of fit ``number``."""
        changed: dict[str, Any] = {}
        for name, value in zip(self.names, self.values[number], strict=True):
            field, places = _PLACE.sub("", name), [int(place) for place in _PLACE.findall(name)]
            changed[field] = _put(changed.get(field, getattr(device, field)), places, value)
        return replace(device, bootstrap=None, **changed)


def device_of_chip(device: Device, seed: int) -> Device:
    """The device with the constants that one chip draws: those of one fit, the same for all its cells.

    The draw depends only on the chip's seed and the device's name.
    """
    if device.bootstrap is None:
        return device
    return device.bootstrap.device(device, hashed(f"{seed}/constants/{device.name}") % len(device.bootstrap.values))


def _numbers(device: Device) -> list[tuple[str, float]]:
    """All numeric constants of a device, by name."""
    found: list[tuple[str, float]] = []

    def add(name: str, value: Any) -> None:
        if isinstance(value, tuple):
            for place, one in enumerate(value):
                add(f"{name}[{place}]", one)
        elif isinstance(value, float):
            found.append((name, value))

    for field in fields(device):
        if field.name not in ("bootstrap", "measured_s", "measured_us"):
            add(field.name, getattr(device, field.name))
    return found


def _put(value: Any, places: list[int], new: float) -> Any:
    """Replaces a value, or one element of nested tuples."""
    if not places:
        return new
    first, *rest = places
    return (*value[:first], _put(value[first], rest, new), *value[first + 1 :])
