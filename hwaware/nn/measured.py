"""What was measured for a network, and goes wherever its weights go: no weight, and no setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.hardware import Ranges

#: Numbers of a network as a whole. It keeps them in its ``config``, which transformers saves with it.
NUMBERS = ("null_threshold",)


@dataclass(frozen=True)
class Measured:
    """As plain types.

    Attributes:
        ranges: full scales of inputs and outputs of each layer with converters, by its name.
        numbers: of :data:`NUMBERS` those that the network has; None where one is not measured yet.
    """

    ranges: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module) -> Measured:
        """What goes with a network, analog or digital."""
        found = {name: getattr(module, "ranges", None) for name, module in network.named_modules()}
        config: Any = getattr(network, "config", None)
        return cls(
            ranges={name: ranges.plain() for name, ranges in found.items() if isinstance(ranges, Ranges)},
            numbers={name: getattr(config, name) for name in NUMBERS if hasattr(config, name)},
        )

    def give(self, network: nn.Module) -> None:
        """Gives it to another copy of the network, analog or digital.

        Raises:
            UserError: it is another network's.
        """
        modules: dict[str, Any] = dict(network.named_modules())
        for name, limits in self.ranges.items():
            if name not in modules:
                raise UserError(f"converters' ranges are of a layer '{name}', which the network does not have.")
            modules[name].ranges = Ranges.of(*limits)
        config: Any = getattr(network, "config", None)
        for name, value in self.numbers.items():
            if not hasattr(config, name):
                raise UserError(f"'{name}' was measured for another network than {type(network).__name__}.")
            setattr(config, name, value)
