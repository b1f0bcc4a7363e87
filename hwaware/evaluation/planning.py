"""Which layer gets how many cells: damage weighed against cells, by water-filling.

The damage of a layer with K cells in parallel is ``b + s·ρ(K)``, with ρ(K) = 1/K where currents add: ``b`` and ``s``
are what :mod:`hwaware.evaluation.sensitivity` measures, where damages of layers add. Sharing cells out so that their
sum is least means that the next cell goes where it takes most damage away for what it costs; layers that stay digital
are those with most damage for their number of weights.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hwaware.errors import UserError
from hwaware.results.sensitivity import LayerSensitivity


@dataclass(frozen=True)
class Layer:
    """One layer as planning sees it.

    Attributes:
        found: what was measured.
        ratio: ρ of a number of cells in parallel.
        choices: numbers of cells in parallel that it may have, ascending from 1.
    """

    found: LayerSensitivity
    ratio: Callable[[int], float]
    choices: Sequence[int]

    def damage(self, parallel: int) -> float:
        """In nats; 0 cells are a digital layer."""
        return self.found.bias_nats + self.found.noise_nats * self.ratio(parallel) if parallel else 0.0


@dataclass(frozen=True)
class Allocation:
    """Cells in parallel of each layer; 0 is digital.

    Attributes:
        parallel: by layer.
        cells_ratio: cells, over those of all layers with one.
        digital_percent: weights that stay digital, of all.
        nats: damage that is expected of all layers together.
    """

    parallel: dict[str, int]
    cells_ratio: float
    digital_percent: float
    nats: float


def choices(combine: str, most: int) -> list[int]:
    """Numbers of cells in parallel worth having, up to the most: all; of a median, odd ones and the most itself."""
    if combine == "mean":
        return list(range(1, most + 1))
    return sorted({*range(1, most + 1, 2), *([most] if most > 2 else [])})


def keep_digital(layers: Mapping[str, Layer], percent: float) -> set[str]:
    """The layers to keep digital of so many percent of the weights: those with most damage for their weights."""
    budget = percent / 100 * sum(one.found.weights for one in layers.values())
    kept: set[str] = set()
    used = 0
    for name in sorted(layers, key=lambda name: -layers[name].found.damage_nats / layers[name].found.weights):
        weights = layers[name].found.weights
        if used + weights <= budget and len(kept) < len(layers) - 1:
            kept.add(name)
            used += weights
    return kept


def allocate(layers: Mapping[str, Layer], cells_ratio: float, digital: Collection[str] = ()) -> Allocation:
    """Shares cells out so that the expected damage is least.

    Args:
        layers: by name.
        cells_ratio: cells to use at most, over those of all layers with one.
        digital: layers that stay digital.

    Raises:
        UserError: they are fewer than one for each place.
    """
    total = sum(one.found.cells for one in layers.values())
    parallel = {name: 0 if name in digital else 1 for name in layers}
    used = sum(layers[name].found.cells * number for name, number in parallel.items())
    if used > cells_ratio * total * (1 + 1e-9):
        raise UserError(
            f"cells={cells_ratio:g} is below {math.ceil(1e4 * used / total) / 1e4:g} times the cells of all layers, "
            "which one cell for each place takes: give as much, or keep more digital (digital_percent)."
        )
    left = cells_ratio * total * (1 + 1e-9) - used
    queue = [step for name in layers if parallel[name] and (step := _best_step(layers[name], name, 1))]
    heapq.heapify(queue)
    while queue:
        _, name, to = heapq.heappop(queue)
        cost = layers[name].found.cells * (to - parallel[name])
        if cost > left:
            continue  # a smaller layer may still fit
        left, parallel[name] = left - cost, to
        if step := _best_step(layers[name], name, to):
            heapq.heappush(queue, step)
    return allocation(layers, parallel)


def allocation(layers: Mapping[str, Layer], parallel: Mapping[str, int]) -> Allocation:
    """What cells in parallel, by layer, use and are expected to do."""
    total, weights = (sum(getattr(one.found, what) for one in layers.values()) for what in ("cells", "weights"))
    cells = sum(layers[name].found.cells * number for name, number in parallel.items())
    kept = sum(layers[name].found.weights for name, number in parallel.items() if not number)
    nats = sum(layers[name].damage(number) for name, number in parallel.items())
    return Allocation(dict(parallel), cells / total, 100 * kept / weights, nats)


def _best_step(layer: Layer, name: str, at: int) -> tuple[float, str, int] | None:
    """The number of cells to go on to: where most damage goes for each cell, as an entry of a queue."""
    best = None
    for to in layer.choices:
        if to <= at:
            continue
        gain = (layer.damage(at) - layer.damage(to)) / (layer.found.cells * (to - at))
        if best is not None and gain <= -best[0]:
            break  # damage falls ever more slowly from here on
        if gain > 0:
            best = (-gain, name, to)
    return best


def expected_points(curve: Sequence[tuple[float, float]], nats: float) -> float:
    """Points of accuracy that a damage is expected to cost, between those that were measured.

    Args:
        curve: damage (nats) and points lost, of placements that were measured.
        nats: the damage.
    """
    known = sorted([(0.0, 0.0), *curve])
    for (low, lost_low), (high, lost_high) in pairwise(known):
        if nats <= high:
            share = (nats - low) / (high - low) if high > low else 1.0
            return lost_low + share * (lost_high - lost_low)
    return known[-1][1]
