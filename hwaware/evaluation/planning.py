"""Allocation of cells to layers: trades damage against cells, by water-filling.

The damage of a layer with K parallel cells is ``b + s·ρ(K)``, with ρ(K) = 1/K if currents add.
:mod:`hwaware.evaluation.sensitivity` measures ``b`` and ``s`` where damages of layers add up. To minimise their sum,
the next cell always goes where it removes most damage for its cost. The layers that stay digital are those with most
damage per weight.
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
class Candidate:
    """One layer in one encoding.

    Attributes:
        found: its measured sensitivity.
        ratio: function ρ of the number of parallel cells.
        choices: allowed numbers of parallel cells, ascending from 1.
    """

    found: LayerSensitivity
    ratio: Callable[[int], float]
    choices: Sequence[int]

    def damage(self, parallel: int) -> float:
        """Damage (nats) with a number of parallel cells; 0 cells: a digital layer."""
        return self.found.bias_nats + self.found.noise_nats * self.ratio(parallel) if parallel else 0.0


#: One layer in each allowed encoding, the usual one first.
Layer = Sequence[Candidate]


@dataclass(frozen=True, order=True)
class Cells:
    """The allocation of one layer.

    Attributes:
        parallel: number of parallel cells; 0: the layer stays digital.
        candidate: index of the encoding among the layer's candidates.
    """

    parallel: int
    candidate: int = 0

    def of(self, layer: Layer) -> int:
        """Number of cells."""
        return self.parallel * layer[self.candidate].found.cells

    def damage(self, layer: Layer) -> float:
        """Damage (nats)."""
        return layer[self.candidate].damage(self.parallel)


DIGITAL = Cells(0)


@dataclass(frozen=True)
class Allocation:
    """The allocation of all layers.

    Attributes:
        cells: allocation by layer.
        cells_ratio: number of cells, relative to all layers in their usual encoding without parallel cells.
        digital_percent: percentage of weights that stay digital.
        nats: expected damage of all layers together.
    """

    cells: dict[str, Cells]
    cells_ratio: float
    digital_percent: float
    nats: float


def choices(combine: str, most: int) -> list[int]:
    """Useful numbers of parallel cells up to ``most``: all for a mean; odd numbers and ``most`` for a median."""
    if combine == "mean":
        return list(range(1, most + 1))
    return sorted({*range(1, most + 1, 2), *([most] if most > 2 else [])})


def keep_digital(layers: Mapping[str, Layer], percent: float) -> set[str]:
    """The layers to keep digital, up to a percentage of the weights: those with most damage per weight."""
    weights = {name: layer[0].found.weights for name, layer in layers.items()}
    budget = percent / 100 * sum(weights.values())
    kept: set[str] = set()
    used = 0
    for name in sorted(layers, key=lambda name: -_least(layers[name]).damage(layers[name]) / weights[name]):
        if used + weights[name] <= budget and len(kept) < len(layers) - 1:
            kept.add(name)
            used += weights[name]
    return kept


def allocate(layers: Mapping[str, Layer], cells_ratio: float, digital: Collection[str] = ()) -> Allocation:
    """Allocates cells so that the expected damage is smallest.

    Args:
        layers: layers by name.
        cells_ratio: largest number of cells, relative to all layers in their usual encoding without parallel cells.
        digital: layers that stay digital.

    Raises:
        UserError: the budget is too small even without parallel cells.
    """
    total = sum(layer[0].found.cells for layer in layers.values())
    cells = {name: DIGITAL if name in digital else _least(layer) for name, layer in layers.items()}
    used = sum(one.of(layers[name]) for name, one in cells.items())
    if used > cells_ratio * total * (1 + 1e-9):
        raise UserError(
            f"cells={cells_ratio:g} is too few even without parallel cells: give "
            f"{math.ceil(1e4 * used / total) / 1e4:g} or more, or keep more of the weights digital (digital_percent)."
        )
    left = cells_ratio * total * (1 + 1e-9) - used
    held = {name: one for name, one in cells.items() if one.parallel}
    queue = [step for name, one in held.items() if (step := _best_step(layers[name], name, one, left))]
    heapq.heapify(queue)
    while queue:
        _, name, to = heapq.heappop(queue)
        cost = to.of(layers[name]) - cells[name].of(layers[name])
        if cost <= left:
            left, cells[name] = left - cost, to
        if step := _best_step(layers[name], name, cells[name], left):
            heapq.heappush(queue, step)
    return allocation(layers, cells)


def allocation(layers: Mapping[str, Layer], cells: Mapping[str, Cells]) -> Allocation:
    """Totals of an allocation: cells, digital weights and expected damage."""
    total, weights = (sum(getattr(one[0].found, what) for one in layers.values()) for what in ("cells", "weights"))
    used = sum(one.of(layers[name]) for name, one in cells.items())
    kept = sum(layers[name][0].found.weights for name, one in cells.items() if not one.parallel)
    nats = sum(one.damage(layers[name]) for name, one in cells.items())
    return Allocation(dict(cells), used / total, 100 * kept / weights, nats)


def _least(layer: Layer) -> Cells:
    """The fewest cells that a layer may have; in a tie of encodings, the one with least damage."""
    return min((Cells(1, number) for number in range(len(layer))), key=lambda one: (one.of(layer), one.damage(layer)))


def _best_step(layer: Layer, name: str, at: Cells, left: float) -> tuple[float, str, Cells] | None:
    """The next step for a layer, with at most ``left`` more cells: most damage removed per cell, as a queue entry."""
    best = None
    used, damage = at.of(layer), at.damage(layer)
    for number, candidate in enumerate(layer):
        before = 0.0
        for parallel in candidate.choices:
            to = Cells(parallel, number)
            if (cost := to.of(layer) - used) <= 0:
                continue
            if cost > left:
                break
            gain = (damage - to.damage(layer)) / cost
            if 0 < gain <= before:
                break  # from here on, damage falls more and more slowly
            before = gain
            if gain > 0 and (best is None or gain > -best[0]):
                best = (-gain, name, to)
    return best


def expected_points(curve: Sequence[tuple[float, float]], nats: float) -> float:
    """Expected accuracy loss (points) for a damage, interpolated between measured placements.

    Args:
        curve: damage (nats) and accuracy loss (points) of measured placements.
        nats: damage (nats).
    """
    known = sorted([(0.0, 0.0), *curve])
    for (low, lost_low), (high, lost_high) in pairwise(known):
        if nats <= high:
            share = (nats - low) / (high - low) if high > low else 1.0
            return lost_low + share * (lost_high - lost_low)
    return known[-1][1]
