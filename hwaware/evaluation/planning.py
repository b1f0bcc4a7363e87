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
class Candidate:
    """One layer in one encoding, as planning sees it.

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


#: One layer in each encoding that it may have, the usual one first.
Layer = Sequence[Candidate]


@dataclass(frozen=True, order=True)
class Cells:
    """What a layer gets.

    Attributes:
        parallel: cells for each place; 0: it stays digital.
        candidate: the encoding, by its place among the layer's.
    """

    parallel: int
    candidate: int = 0

    def of(self, layer: Layer) -> int:
        """How many these are."""
        return self.parallel * layer[self.candidate].found.cells

    def damage(self, layer: Layer) -> float:
        """That they do (nats)."""
        return layer[self.candidate].damage(self.parallel)


DIGITAL = Cells(0)


@dataclass(frozen=True)
class Allocation:
    """Cells of each layer.

    Attributes:
        cells: by layer.
        cells_ratio: cells, over those of all layers with one in each place of their usual encoding.
        digital_percent: weights that stay digital, of all.
        nats: damage that is expected of all layers together.
    """

    cells: dict[str, Cells]
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
    """Shares cells out so that the expected damage is least.

    Args:
        layers: by name.
        cells_ratio: cells to use at most, over those of all layers with one in each place of their usual encoding.
        digital: layers that stay digital.

    Raises:
        UserError: they are fewer than one for each place.
    """
    total = sum(layer[0].found.cells for layer in layers.values())
    cells = {name: DIGITAL if name in digital else _least(layer) for name, layer in layers.items()}
    used = sum(one.of(layers[name]) for name, one in cells.items())
    if used > cells_ratio * total * (1 + 1e-9):
        raise UserError(
            f"cells={cells_ratio:g} is too few for one cell in each place: give "
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
    """What layers' cells are together, and are expected to do."""
    total, weights = (sum(getattr(one[0].found, what) for one in layers.values()) for what in ("cells", "weights"))
    used = sum(one.of(layers[name]) for name, one in cells.items())
    kept = sum(layers[name][0].found.weights for name, one in cells.items() if not one.parallel)
    nats = sum(one.damage(layers[name]) for name, one in cells.items())
    return Allocation(dict(cells), used / total, 100 * kept / weights, nats)


def _least(layer: Layer) -> Cells:
    """The fewest cells that a layer may have; of encodings with as many, the one with the least damage."""
    return min((Cells(1, number) for number in range(len(layer))), key=lambda one: (one.of(layer), one.damage(layer)))


def _best_step(layer: Layer, name: str, at: Cells, left: float) -> tuple[float, str, Cells] | None:
    """The cells to go on to, by so many more at most: where most damage goes for each, as an entry of a queue."""
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
                break  # damage falls ever more slowly from here on
            before = gain
            if gain > 0 and (best is None or gain > -best[0]):
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
