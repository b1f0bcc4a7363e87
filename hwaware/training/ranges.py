"""Ranges of converters that are learned along with the weights."""

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
    """Settings for learning the ranges of converters, starting from the measured percentiles.

    The gradient of a range balances clipping against rounding (LSQ, arXiv 1902.08153; see
    :mod:`hwaware.nn.conversion`).

    Attributes:
        rate: factor on the optimiser's learning rate. The logarithms of ranges are learned, so it is a relative rate.
        decay: weight of the sum of the ranges' logarithms in the loss, which shrinks ranges like the input-range decay
            of IBM's aihwkit.
    """

    rate: float = 1.0
    decay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise UserError(f"range_learning: rate={self.rate} must be above 0; range_learning null keeps ranges.")
        if not 0 <= self.decay < math.inf:
            raise UserError(f"range_learning: decay={self.decay} must be 0 or more; 0 is usual.")


class RangeParameters(nn.Module):
    """Logarithms of the ranges of a converted network: of inputs with a DAC, and of outputs with an ADC.

    They are not part of the network, so its keys stay those of the digital network.

    Raises:
        UserError: there is no range to learn.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.logs = nn.ParameterDict()
        self._layers: dict[str, AnalogLayer] = {}  # not as child modules
        for name, (layer, converters) in layers_with_converters(network).items():
            arrays = len(layer.tiling.parts) if converters.per_array else 1
            bits = {"x": converters.dac_bits, "y": converters.adc_bits}
            for key in (key for key, given in bits.items() if given is not None):
                self.logs[_key(name, key)] = nn.Parameter(torch.full((arrays,), torch.nan))
            self._layers[name] = layer
        if not self.logs:
            raise UserError(
                "range_learning needs converters with dac_bits or adc_bits, but no layer has one: set "
                "hardware.crossbar.converters, or range_learning null."
            )

    def _of(self, name: str) -> tuple[Tensor | None, Tensor | None]:
        x, y = (_key(name, key) for key in "xy")
        return self.logs[x] if x in self.logs else None, self.logs[y] if y in self.logs else None

    @torch.no_grad()
    def start(self) -> None:
        """Starts from the measured ranges, unless a checkpoint had some, and installs them in the layers."""
        for name, layer in self._layers.items():
            assert layer.ranges is not None  # measured before
            for log, limit in zip(self._of(name), layer.ranges, strict=True):
                if log is not None and log.isnan().any():
                    log.copy_(torch.tensor(limit).log())
            layer.learned = LearnedRanges(*self._of(name))

    @torch.no_grad()
    def write(self) -> None:
        """Writes the learned ranges into the layers."""
        for name, layer in self._layers.items():
            if layer.learned is None or layer.ranges is None:
                continue
            found = []
            for log, limit in zip(self._of(name), layer.ranges, strict=True):
                values = None if log is None else tuple(log.exp().tolist())
                found.append(limit if values is None else values[0] if len(values) == 1 else values)
            layer.ranges = Ranges(*found)

    def stop(self) -> None:
        """Ends learning."""
        self.write()
        for layer in self._layers.values():
            layer.learned = None

    def pull(self) -> Tensor:
        """Sum of all logarithms, 0-dim."""
        return torch.stack([log.sum() for log in self.logs.values()]).sum()


def _key(name: str, which: str) -> str:
    """A parameter name for a layer's range, without dots."""
    return f"{name}/{which}".replace(".", "/")
