"""Measured quantities that belong to a network's weights (converter ranges, thresholds) and travel with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.hardware import Ranges

#: Measured numbers of a whole network. It keeps them in its ``config``, which transformers saves with it.
NUMBERS = ("null_threshold",)


@dataclass(frozen=True)
class Measured:
    """Measured quantities of a network, as plain types.

    Attributes:
        ranges: full scales of inputs and outputs of each layer with converters, by name.
        numbers: those of :data:`NUMBERS` that the network has; None: not measured yet.
    """

    ranges: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module) -> Measured:
        """Collects the measured quantities of an analog or digital network."""
        found = {name: getattr(module, "ranges", None) for name, module in network.named_modules()}
        config: Any = getattr(network, "config", None)
        return cls(
            ranges={name: ranges.plain() for name, ranges in found.items() if isinstance(ranges, Ranges)},
            numbers={name: getattr(config, name) for name in NUMBERS if hasattr(config, name)},
        )

    def give(self, network: nn.Module) -> None:
        """Sets them on another copy of the network, analog or digital.

        Raises:
            UserError: they belong to another network.
        """
        modules: dict[str, Any] = dict(network.named_modules())
        for name, limits in self.ranges.items():
            if name not in modules:
                raise UserError(f"there are ranges for layer '{name}', which the network does not have.")
            modules[name].ranges = Ranges.of(*limits)
        config: Any = getattr(network, "config", None)
        for name, value in self.numbers.items():
            if not hasattr(config, name):
                raise UserError(f"'{name}' was measured for a network other than {type(network).__name__}.")
            setattr(config, name, value)
