"""Settings of a task that recipes spell out, as plain frozen dataclasses."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hwaware.errors import UserError
from hwaware.hardware.devices import Device, load_device


@dataclass(frozen=True)
class DeviceOptions:
    """A memory technology by name, and what is to differ from its preset.

    Attributes:
        name: a preset (``reram_cmo``, ``reram_relative``, …), the path of a device's YAML file, or the
            ``module.Class`` of a device of one's own.
        mapping: ``offset``, ``offset_reference``, ``differential``, ``differential_symmetric`` or ``bit_sliced``. None:
            the preset's, as for all below.
        scale: one weight scale per ``tensor`` or per output ``channel``; ``fixed`` for ``bit_sliced`` alone.
        clamp: cells hold values of the programming ``window``, or anything above ``zero``.
        kappa: non-linearity κ of the cell's current; ``linear`` for none.
        range_fraction: share r of the conductance window that weights use.
        overrides: any other parameter of the device, by name.
    """

    name: str
    mapping: str | None = None
    scale: str | None = None
    clamp: str | None = None
    kappa: float | Literal["linear"] | None = None
    range_fraction: float | None = None
    overrides: dict[str, float | str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.build()  # a wrong name or value is told when the recipe is read, before anything runs

    def build(self) -> Device:
        """The device.

        Raises:
            UserError: a name or a value is wrong.
        """
        fields = ("name", "mapping", "scale", "clamp", "kappa", "range_fraction")
        for key in self.overrides:
            if key in fields:
                raise UserError(f"overrides of device '{self.name}': {key} has a key of its own, beside overrides.")
        given = {key: getattr(self, key) for key in fields[1:]}
        given = {key: value for key, value in given.items() if value is not None}
        if given.get("kappa") == "linear":
            given["kappa"] = None
        return load_device(self.name, **given, **self.overrides)


@dataclass(frozen=True)
class KeepDigital:
    """The most sensitive layers, which are left out of the cells.

    Attributes:
        ranking: ``sensitivity.csv`` of ``hwaware sensitivity``.
        layers: how many.
    """

    ranking: str
    layers: int

    def names(self) -> tuple[str, ...]:
        """The layers.

        Raises:
            UserError: there is no such file, it is no ranking, or it names fewer layers.
        """
        if not Path(self.ranking).is_file():
            raise UserError(f"keep_digital.ranking: there is no file '{self.ranking}'; hwaware sensitivity writes it.")
        with open(self.ranking, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        if not lines or not {"rank", "layer"} <= lines[0].keys():
            raise UserError(f"keep_digital.ranking: '{self.ranking}' has no columns 'rank' and 'layer'.")
        if not 1 <= self.layers < len(lines):
            raise UserError(f"keep_digital.layers={self.layers} must lie in [1, {len(lines) - 1}], of {len(lines)}.")
        ranked = sorted(lines, key=lambda line: int(line["rank"]))
        return tuple(line["layer"] for line in ranked[: self.layers])
