"""Arrays of a converted network, and their operations in one inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from torch import nn

from hwaware.compensation.costs import network_size
from hwaware.hardware import Crossbar
from hwaware.hardware.crossbar.constants import Estimate
from hwaware.hardware.crossbar.costs import ArrayCosts, array_costs
from hwaware.nn import analog_layers, owning_layers, weight_owners
from hwaware.results.arrays import LayerArrays, LayerEstimate


def layer_positions(model: nn.Module, predict: Callable[[nn.Module, Any], Any], batch: Any) -> dict[str, int]:
    """Output positions of each analog layer for one sample, over all of its calls, by a forward pass.

    Args:
        model: a converted network in eval mode; its converters need no ranges.
        predict: runs it on a batch.
        batch: samples; the first tensor is the input.
    """
    with _exact_crossbars(model):
        size = network_size(model, predict, batch)
    return {name: layer.positions for name, layer in size.layers.items()}


def network_arrays(model: nn.Module, positions: Mapping[str, int]) -> dict[str, ArrayCosts]:
    """Array and operation counts of each layer; tied layers share arrays, under the name of the first.

    Args:
        model: a converted network.
        positions: output positions of each analog layer in one inference; see :func:`layer_positions`.
    """
    of_all: dict[str, int] = {}
    for name, owner in weight_owners(model).items():
        of_all[owner] = of_all.get(owner, 0) + positions[name]
    return {
        name: array_costs(layer.hardware, tuple(layer.rows_shape), layer.groups, of_all[name])
        for name, layer in owning_layers(model).items()
    }


def arrays_line(layer: str, weights: int, costs: ArrayCosts) -> LayerArrays:
    """A layer's counts as a row of results."""
    own = [field.name for field in fields(LayerArrays) if field.name not in ("layer", "weights")]
    return LayerArrays(layer, weights, **{name: getattr(costs, name) for name in own})


def estimate_line(constants: str, found: Estimate) -> LayerEstimate:
    """An estimate as a row of results."""
    return LayerEstimate(
        constants=constants,
        estimated_dac_pj=found.dac_pj,
        estimated_adc_pj=found.adc_pj,
        estimated_cells_pj=found.cells_pj,
        estimated_additions_pj=found.additions_pj,
        estimated_energy_pj=found.energy_pj,
        estimated_latency_us=found.latency_us,
    )


@contextmanager
def _exact_crossbars(model: nn.Module) -> Iterator[None]:
    """Within the context layers compute without converters and wires, which do not change the counts."""
    layers = list(analog_layers(model).values())
    before = [layer.hardware for layer in layers]
    try:
        for layer in layers:
            layer.hardware = replace(layer.hardware, crossbar=Crossbar())
        yield
    finally:
        for layer, hardware in zip(layers, before, strict=True):
            layer.hardware = hardware
