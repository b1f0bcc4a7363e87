"""Storage and operations of the adapters beside a network's layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from hwaware.compensation.costs import HALF_BYTES, network_size
from hwaware.nn import adapters


@dataclass(frozen=True)
class AdapterCost:
    """Cost of all adapters of a network.

    Attributes:
        layers: number of layers with an adapter.
        values: number of the adapters' values, the only trained parameters.
        trainable_percent: the same in percent of the network's parameters.
        bytes_stored: bytes in digital memory, in half precision.
        macs: digital multiply-accumulates per inference.
        extra_macs_percent: the same in percent of those of the analog layers.
    """

    layers: int
    values: int
    trainable_percent: float
    bytes_stored: int
    macs: int
    extra_macs_percent: float


def adapter_cost(model: nn.Module, predict: Callable[[nn.Module, Any], Any], batch: Any) -> AdapterCost:
    """Counts the cost of a network's adapters.

    Args:
        model: a converted network in eval mode.
        predict: runs it on a batch.
        batch: samples; the first tensor is the input.
    """
    size = network_size(model, predict, batch)
    found = {name: sum(one.numel() for one in adapter.parameters()) for name, (_, adapter) in adapters(model).items()}
    values = sum(found.values())
    # Each of its values is used once for each position of the layer's output.
    macs = sum(size.layers[name].positions * own for name, own in found.items() if name in size.layers)
    return AdapterCost(
        layers=len(found),
        values=values,
        trainable_percent=100 * values / (size.parameters - values),
        bytes_stored=values * HALF_BYTES,
        macs=macs,
        extra_macs_percent=100 * macs / size.macs,
    )
