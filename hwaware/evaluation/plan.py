"""Planning of the cells of each layer: measure damage, allocate cells, predict accuracy, measure it again."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip
from hwaware.compensation import FitData
from hwaware.compensation.seeds import planning_chip
from hwaware.errors import UserError
from hwaware.evaluation.fitting import ACCURACY_SAMPLES, fit_data
from hwaware.evaluation.planning import (
    DIGITAL,
    Allocation,
    Candidate,
    Cells,
    Layer,
    allocate,
    choices,
    expected_points,
    keep_digital,
)
from hwaware.evaluation.run import Run
from hwaware.evaluation.sensitivity import (
    Probe,
    answers_of,
    damage,
    exact_weights,
    noise_ratio,
    sensitivity,
)
from hwaware.evaluation.settings import check_chips
from hwaware.hardware import EncodingOptions, Hardware, Placement, Rule
from hwaware.nn import analog_layers, owning_layers, weight_owners
from hwaware.results.plan import PlannedLayer, PlannedPoint
from hwaware.results.sensitivity import LayerSensitivity
from hwaware.tasks import HardwareAwareTask

#: Budgets (cells relative to no parallel cells) of further placements that are measured beside the plan.
FRONT = (1.0, 1.1, 1.25, 1.5, 2.0)

#: Budgets whose accuracy is measured on planning chips, as the basis of predictions.
_KNOWN = (1.0, 1.25, 2.0)

#: Search for a target: factor between budgets, largest budget, and number of bisections of the last step.
_STEP, _MOST_CELLS, _HALVINGS = 1.25, 16.0, 2

#: Settings of an encoding that can't be alternatives.
_NOT_TO_CHOOSE = {"parallel": "chosen by the plan", "kappa": "the cells' own I-V curve, the same for all layers"}

#: Batch size for measuring damage.
_BATCH = 50

#: Largest factor by which one refinement may change the damage of a layer.
_MOST_CHANGE = 8.0


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Settings of a plan: a budget of cells, or an accuracy target.

    Attributes:
        cells: largest number of cells, relative to all layers without parallel cells; None: a target is given.
        points: largest accuracy loss (points) on validation chips; None: a budget is given.
        digital_percent: largest percentage of weights to keep digital.
        age_s: age (s) of the chips.
        yield_percent: percentage of chips that must reach the target.
        max_parallel: most parallel cells.
        samples: calibration samples for measuring damage.
        chips: planning chips for measuring damage.
        validation_chips: chips for measuring the accuracy of placements.
        validation_samples: most samples for it.
        refine: number of refinements: damages are measured again with all layers as planned, and cells reallocated.
        alternatives: encodings that a layer may use if they do less damage, as settings that differ from its own.
        sensitivities: sensitivities of all layers, if already measured; None: measure them.
        seed: seed of the planning chips.

    Raises:
        UserError: a value is out of range, or not exactly one of budget and target is given.
    """

    cells: float | None = None
    points: float | None = None
    digital_percent: float = 0.0
    age_s: float = 315_360_000.0
    yield_percent: float = 95.0
    max_parallel: int = 1024
    samples: int = 100
    chips: int = 2
    validation_chips: int = 5
    validation_samples: int = ACCURACY_SAMPLES
    refine: int = 0
    alternatives: Sequence[EncodingOptions] = ()
    sensitivities: Sequence[LayerSensitivity] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.cells is None) == (self.points is None):
            raise UserError("plan: give either a budget (--cells 1.25) or a target (--points 1).")
        if self.cells is not None and not 0 < self.cells < float("inf"):
            raise UserError(f"cells={self.cells} must be above 0: 1.25 is 25 % more cells than without parallel cells.")
        if self.points is not None and not 0 < self.points < 100:
            raise UserError(f"points={self.points} must lie in (0, 100): the largest loss of accuracy.")
        for field, low, high in (("digital_percent", 0, 100), ("yield_percent", 0, 100)):
            if not low <= getattr(self, field) <= high:
                raise UserError(f"{field}={getattr(self, field)} must lie in [{low}, {high}].")
        least_cells = 1 - self.digital_percent / 100
        # Raised before anything is measured, unless an alternative may need fewer cells.
        if self.cells is not None and self.cells < least_cells and not self.alternatives:
            raise UserError(
                f"cells={self.cells:g} is too few even without parallel cells: give {least_cells:g} or more, or keep "
                "more of the weights digital (digital_percent)."
            )
        for field in ("max_parallel", "samples", "chips", "validation_chips", "validation_samples", "refine"):
            if getattr(self, field) < (least := int(field != "refine")):
                raise UserError(f"{field}={getattr(self, field)} must be at least {least}.")
        for field in ("chips", "validation_chips"):
            check_chips(field, getattr(self, field))
        for one in self.alternatives:
            if not one.words():
                raise UserError("alternatives: one of them is empty: give e.g. {headroom_us: [2, 1]}.")
            for word, why in _NOT_TO_CHOOSE.items():
                if word in one.words():
                    raise UserError(f"alternatives: {word} is {why}: leave it out.")

    @property
    def encodings(self) -> tuple[str, ...]:
        """Labels of the encodings in files, the usual one first."""
        return ("", *(json.dumps(one.words(), sort_keys=True) for one in self.alternatives))


@dataclass(frozen=True)
class Plan:
    """Result of :func:`make_plan`.

    Attributes:
        settings: the settings.
        sensitivities: sensitivities of all layers.
        layers: the plan for each layer.
        hardware: hardware of each layer, tied layers included; None: digital.
        front: all measured placements, sorted by cells, with the plan.
    """

    settings: PlanSettings
    sensitivities: list[LayerSensitivity]
    layers: list[PlannedLayer]
    hardware: dict[str, Hardware | None]
    front: list[PlannedPoint]

    @property
    def chosen(self) -> PlannedPoint:
        return next(point for point in self.front if point.chosen)


def probe_of(task: HardwareAwareTask, data: FitData, samples: int) -> Probe:
    """The measurement of damage: calibration samples, and the task's divergence."""
    return Probe(data.predict, task.divergence, list(data.calibration_batches(samples, _BATCH)))


def converted(
    run: Run, task: HardwareAwareTask, datamodule: LightningDataModule, network: nn.Module, placement: Placement
) -> nn.Module:
    """A converted and calibrated copy of a digital network, on the run's torch device."""
    model = copy.deepcopy(network).float()
    task.convert(model, placement)
    model = model.to(run.torch_device).eval()
    with run.precision():
        task.calibrate(model, datamodule)
    return model


def make_plan(
    run: Run,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    network: nn.Module,
    placement: Placement,
    settings: PlanSettings,
) -> Plan:
    """Plans the cells of a digital network, with calibration samples, planning chips and validation chips.

    Args:
        run: where it runs, in one process.
        task: converts and scores the network, and measures its divergence.
        datamodule: the data; only validation samples are used.
        network: the digital network.
        placement: hardware of each layer; the plan chooses the parallel cells. Digital layers stay digital.
        settings: settings of the plan.

    Raises:
        UserError: the budget is too small even without parallel cells, or no budget reaches the target.
    """
    return _Planner(run, task, datamodule, network, placement, settings).plan()


class _Planner:
    """Computes one plan."""

    def __init__(
        self,
        run: Run,
        task: HardwareAwareTask,
        datamodule: LightningDataModule,
        network: nn.Module,
        placement: Placement,
        settings: PlanSettings,
    ) -> None:
        self.run, self.task, self.settings = run, task, settings
        self.on_placement = partial(converted, run, task, datamodule, network)
        self.data = fit_data(run, task, datamodule, settings.validation_samples)
        self.probe = probe_of(task, self.data, settings.samples)
        placements = [placement, *(encoded(placement, one) for one in settings.alternatives)]
        self.models = [self.on_placement(one) for one in placements]
        self.model = self.models[0]
        self.owners = weight_owners(self.model)
        self.given = [{name: layer.hardware for name, layer in analog_layers(one).items()} for one in self.models]
        self.planning_chips = [planning_chip(settings.seed, number) for number in range(settings.chips)]
        first = VALIDATION_CHIP_SEED_START
        self.validation_chips = range(first, first + settings.validation_chips)
        self.exact = 0.0
        self.curve: list[tuple[float, float]] = []
        self.points: dict[tuple[Cells, ...], PlannedPoint] = {}

    def plan(self) -> Plan:
        settings = self.settings
        found = self._measured() if settings.sensitivities is None else self._given(settings.sensitivities)
        layers = self._layers(found)
        digital = keep_digital(layers, settings.digital_percent)
        least = self._least(layers, digital)
        if settings.cells is not None:
            allocate(layers, settings.cells, digital)  # so that too small a budget is reported before any measurement
        with torch.no_grad():
            self.exact = self.data.accuracy(self.on_placement(self._placement(dict.fromkeys(layers, Cells(1)))))
        for number in range(settings.refine):
            layers = self._refined(layers, allocate(layers, settings.cells or max(least, _KNOWN[1]), digital), number)
        budgets = sorted({max(least, ratio) for ratio in FRONT} | ({settings.cells} if settings.cells else set()))
        known = {max(least, ratio) for ratio in _KNOWN}
        with self.run.progress("weighing placements", len(known) + len(budgets)) as advance:
            for ratio in known:
                share = allocate(layers, ratio, digital)
                values = self._accuracies(share, self.planning_chips)
                self.curve.append((share.nats, self.exact - statistics.fmean(values)))
                advance()
            for ratio in budgets:
                self._weigh(allocate(layers, ratio, digital))
                advance()
        budget = settings.cells if settings.cells is not None else self._budget_for_target(layers, digital, least)
        chosen = allocate(layers, budget, digital)
        point = replace(self._weigh(chosen), chosen=True)
        front = [one for key, one in self.points.items() if key != _key(chosen)]
        planned = [
            self._planned(name, layer, chosen.cells[name])
            for name, layer in sorted(layers.items(), key=lambda item: -item[1][0].found.damage_nats)
        ]
        front = sorted([*front, point], key=lambda one: one.cells_ratio)
        return Plan(settings, found, planned, self._hardware(chosen.cells), front)

    def _planned(self, name: str, layer: Layer, cells: Cells) -> PlannedLayer:
        return PlannedLayer(
            layer=name,
            weights=layer[0].found.weights,
            parallel=cells.parallel,
            cells=cells.of(layer),
            damage_nats=layer[0].found.damage_nats,
            planned_nats=cells.damage(layer),
            encoding=self.settings.encodings[cells.candidate],
            arrays=self._arrays(name, cells),
        )

    def _arrays(self, name: str, cells: Cells) -> int:
        """Number of arrays for a layer's cells."""
        if not cells.parallel:
            return 0
        layer = analog_layers(self.models[cells.candidate])[name]
        hardware = self.given[cells.candidate][name].with_parallel(cells.parallel)
        return hardware.tiling(tuple(layer.rows_shape), layer.groups).n_arrays

    def _least(self, layers: Mapping[str, Layer], digital: set[str]) -> float:
        """The smallest possible number of cells, relative to all layers without parallel cells."""
        fewest = {name: min(Cells(1, n).of(one) for n in range(len(one))) for name, one in layers.items()}
        total = sum(one[0].found.cells for one in layers.values())
        return sum(cells for name, cells in fewest.items() if name not in digital) / total

    def _measured(self) -> list[LayerSensitivity]:
        names, age_s = owning_layers(self.model), self.settings.age_s
        found: list[LayerSensitivity] = []
        with self.run.progress("measuring layers", len(names) * len(self.models)) as advance:
            for model, encoding in zip(self.models, self.settings.encodings, strict=True):
                lines = sensitivity(model, self.probe, age_s=age_s, chip_seeds=self.planning_chips, on_layer=advance)
                found += [replace(one, encoding=encoding) for one in lines]
        return found

    def _given(self, found: Sequence[LayerSensitivity]) -> list[LayerSensitivity]:
        """The given sensitivities, checked against network, hardware, alternatives and age."""
        for model, encoding in zip(self.models, self.settings.encodings, strict=True):
            lines = [one for one in found if one.encoding == encoding]
            if not lines:
                others = ", ".join(sorted({one.encoding or "none" for one in found}))
                raise UserError(f"sensitivity: it lacks the alternative {encoding or 'none'}; it has: {others}.")
            self._check_given(model, lines)
        return [one for one in found if one.encoding in self.settings.encodings]

    def _check_given(self, model: nn.Module, found: Sequence[LayerSensitivity]) -> None:
        here, there = owning_layers(model), {one.layer: one for one in found}
        if odd := sorted(set(here) ^ set(there)):
            which = "is not an analog layer of this network" if odd[0] in there else "is not in it"
            raise UserError(f"sensitivity: it is of another network or placement: layer '{odd[0]}' {which}.")
        for name, layer in here.items():
            single = layer.hardware.with_parallel(1).n_cells(tuple(layer.rows_shape), layer.groups)
            if (there[name].weights, there[name].cells) != (layer.weight.numel(), single):
                raise UserError(
                    f"sensitivity: it is of another network or mapping: layer '{name}' has {single:,} cells."
                )
            if there[name].age_s != self.settings.age_s:
                raise UserError(
                    f"sensitivity: its chips have an age of {there[name].age_s:g} s, but those of the plan "
                    f"{self.settings.age_s:g} s: give the same."
                )

    def _layers(self, found: Sequence[LayerSensitivity]) -> dict[str, Layer]:
        layers: dict[str, list[Candidate]] = {name: [] for name in owning_layers(self.model)}
        for model, encoding in zip(self.models, self.settings.encodings, strict=True):
            chip, modules = Chip.program(model, self.planning_chips[0]), owning_layers(model)
            for one in found:
                if one.encoding == encoding:
                    module = modules[one.layer]
                    ratio = cache(partial(noise_ratio, module, chip, one.layer, self.settings.age_s))
                    numbers = choices(module.hardware.encoding.combine, self.settings.max_parallel)
                    layers[one.layer].append(Candidate(one, ratio, numbers))
        return dict(layers)

    def _hardware(self, cells: Mapping[str, Cells]) -> dict[str, Hardware | None]:
        own = {name: cells[owner] for name, owner in self.owners.items()}
        return {
            name: None if one == DIGITAL else self.given[one.candidate][name].with_parallel(one.parallel)
            for name, one in own.items()
        }

    def _placement(self, cells: Mapping[str, Cells]) -> Placement:
        hardware = self._hardware(cells)
        rules = (Rule((name,), one) for name, one in hardware.items() if one is not None)
        return Placement(None, tuple(rules))

    @torch.no_grad()
    def _accuracies(self, share: Allocation, chip_seeds: Sequence[int]) -> list[float]:
        model, values = self.on_placement(self._placement(share.cells)), []
        for seed in chip_seeds:
            with Chip.program(model, seed).at(self.settings.age_s):
                values.append(self.data.accuracy(model))
        return values

    def _weigh(self, share: Allocation) -> PlannedPoint:
        """A placement with its predicted and measured accuracy; each is measured once."""
        if (key := _key(share)) not in self.points:
            values, points = self._accuracies(share, self.validation_chips), self.settings.points
            reached = [self.exact - value <= points for value in values] if points is not None else []
            self.points[key] = PlannedPoint(
                cells_ratio=share.cells_ratio,
                digital_percent=share.digital_percent,
                nats=share.nats,
                predicted=self.exact - expected_points(self.curve, share.nats),
                measured=statistics.fmean(values),
                std=statistics.stdev(values) if len(values) > 1 else 0.0,
                yield_percent=100 * statistics.fmean(reached) if reached else float("nan"),
                exact=self.exact,
            )
        return self.points[key]

    def _reaches(self, share: Allocation) -> bool:
        return self._weigh(share).yield_percent >= self.settings.yield_percent

    def _budget_for_target(self, layers: Mapping[str, Layer], digital: set[str], least: float) -> float:
        """The fewest cells that reach the target, within a few percent."""
        most_of = {name: max(one.found.cells * one.choices[-1] for one in layer) for name, layer in layers.items()}
        places = sum(cells for name, cells in most_of.items() if name not in digital)
        most = min(places / sum(layer[0].found.cells for layer in layers.values()), _MOST_CELLS)
        below = budget = least
        while not self._reaches(allocate(layers, budget, digital)):
            if budget >= most:
                raise UserError(self._unreached())
            below, budget = budget, min(budget * _STEP, most)
        for _ in range(_HALVINGS if budget > below else 0):
            between = (below * budget) ** 0.5
            below, budget = (below, between) if self._reaches(allocate(layers, between, digital)) else (between, budget)
        return budget

    def _unreached(self) -> str:
        best = max(self.points.values(), key=lambda one: one.measured)
        return (
            f"no budget up to {_MOST_CELLS:g} times the cells (max_parallel={self.settings.max_parallel}) loses at "
            f"most {self.settings.points:g} points "
            f"on {self.settings.yield_percent:g} % of the validation chips. The nearest loses "
            f"{best.exact - best.measured:.2f} points on average, with {best.cells_ratio:.3g} times the cells: ask for "
            "less, or keep more digital (digital_percent)."
        )

    @torch.no_grad()
    def _refined(self, layers: dict[str, Layer], share: Allocation, number: int) -> dict[str, Layer]:
        """Layers with damages measured within the plan: the damage that disappears if one layer is exact."""
        model = self.on_placement(self._placement(share.cells))
        answers, exact = answers_of(self.model, self.probe), exact_weights(model)
        gone: dict[str, list[float]] = {name: [] for name in exact}
        with self.run.progress("refining", len(exact) * len(self.planning_chips)) as advance:
            for seed in self.planning_chips:
                chip = Chip.program(model, seed)
                aged = {name: chip.weight_at(name, self.settings.age_s, f"refining {number}") for name in exact}
                every = damage(model, self.probe, aged, answers)
                for name in exact:
                    gone[name].append(every - damage(model, self.probe, aged | {name: exact[name]}, answers))
                    advance()
        refined = dict(layers)
        for name, values in gone.items():
            expected = share.cells[name].damage(layers[name])
            change = statistics.fmean(values) / expected if expected > 0 else 1.0
            refined[name] = [_changed(one, min(max(change, 1 / _MOST_CHANGE), _MOST_CHANGE)) for one in layers[name]]
        return refined


def encoded(placement: Placement, words: EncodingOptions) -> Placement:
    """A placement with another encoding.

    Raises:
        UserError: some of its hardware can't use it.
    """

    def of(hardware: Hardware | None) -> Hardware | None:
        try:
            return None if hardware is None else replace(hardware, encoding=words.over(hardware.encoding))
        except UserError as error:
            raise UserError(f"alternatives: {error}") from None

    rules = tuple(replace(rule, hardware=of(rule.hardware)) for rule in placement.rules)
    return replace(placement, default=of(placement.default), rules=rules)


def _changed(one: Candidate, factor: float) -> Candidate:
    """A layer's candidate with its damage multiplied by a factor."""
    found = replace(one.found, bias_nats=one.found.bias_nats * factor, noise_nats=one.found.noise_nats * factor)
    return replace(one, found=found)


def _key(share: Allocation) -> tuple[Cells, ...]:
    return tuple(share.cells.values())
