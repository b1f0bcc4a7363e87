"""Converters' ranges that train along with the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware import Ranges
from hwaware.nn import AnalogLayer, layers_with_converters
from hwaware.nn.layers import LearnedRanges


@dataclass(frozen=True)
class RangeLearning:
    """How the ranges of converters learn, from the percentiles that were measured on.

    A range's gradient weighs what it cuts off against what it rounds (LSQ, arXiv 1902.08153; see
    :mod:`hwaware.nn.conversion`).

    Attributes:
        rate: factor of the optimiser's learning rate. Logarithms learn, so that it is a relative rate.
        decay: weight of the sum of the ranges' logarithms in the loss, a pull towards 0 as on the input ranges of IBM's
            aihwkit.
    """

    rate: float = 1.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise UserError(f"range_learning: rate={self.rate} must be above 0; range_learning null keeps ranges.")
        if not 0 <= self.decay < math.inf:
            raise UserError(f"range_learning: decay={self.decay} must be 0 or more; 0 is usual.")


class RangeParameters(nn.Module):
    """Logarithms of the ranges of a converted network's converters: of inputs with a DAC, and outputs with an ADC.

    They are no part of the network, whose keys stay those of the digital one.

    Raises:
        UserError: there is nothing whose range could learn.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.logs = nn.ParameterDict()
        self._layers: dict[str, AnalogLayer] = {}  # not as a child
        for name, (layer, converters) in layers_with_converters(network).items():
            arrays = len(layer.tiling.parts) if converters.per_array else 1
            bits = {"x": converters.dac_bits, "y": converters.adc_bits}
            for key in (key for key, given in bits.items() if given is not None):
                self.logs[_key(name, key)] = nn.Parameter(torch.full((arrays,), torch.nan))
            self._layers[name] = layer
        if not self.logs:
            raise UserError(
                "range_learning is for converters with dac_bits or adc_bits, and no layer has one: set "
                "hardware.crossbar.converters, or range_learning null."
            )

    def _of(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        x, y = (_key(name, key) for key in "xy")
        return self.logs[x] if x in self.logs else None, self.logs[y] if y in self.logs else None

    @torch.no_grad()
    def start(self) -> None:
        """Takes up the ranges that were measured, where there are none from a checkpoint, and gives them to layers."""
        for name, layer in self._layers.items():
            assert layer.ranges is not None  # they were measured before
            for log, limit in zip(self._of(name), layer.ranges, strict=True):
                if log is not None and log.isnan().any():
                    log.copy_(torch.tensor(limit).log())
            layer.learned = LearnedRanges(*self._of(name))

    @torch.no_grad()
    def write(self) -> None:
        """Makes what was learned the layers' ranges."""
        for name, layer in self._layers.items():
            if layer.learned is None or layer.ranges is None:
                continue
            found = []
            for log, limit in zip(self._of(name), layer.ranges, strict=True):
                values = None if log is None else tuple(log.exp().tolist())
                found.append(limit if values is None else values[0] if len(values) == 1 else values)
            layer.ranges = Ranges(*found)

    def stop(self) -> None:
        """Ends the learning."""
        self.write()
        for layer in self._layers.values():
            layer.learned = None

    def pull(self) -> Tensor:
        """Sum of all logarithms, 0-dim."""
        return torch.stack([log.sum() for log in self.logs.values()]).sum()


def _key(name: str, which: str) -> str:
    """Of a layer's range: a name that parameters may have, which takes no dots."""
    return f"{name}/{which}".replace(".", "/")
