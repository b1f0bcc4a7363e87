"""Settings of an evaluation: hardware, ages, chips, repairs."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch import LightningDataModule

from hwaware.chip import CHIP_SEED_START, VALIDATION_CHIP_SEED_START
from hwaware.compensation import Compensation, InFieldCompensation, Schedule
from hwaware.data.contract import Samples, dataset_name
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import DEFAULT_AGES_S, ages_to_evaluate, held_by
from hwaware.evaluation.fitting import samples_to_fit
from hwaware.hardware import Placement
from hwaware.nn import main_hardware, to_digital
from hwaware.results.criteria import Criteria
from hwaware.results.row import RunLabels
from hwaware.tasks import HardwareAwareTask

MAX_CHIPS = CHIP_SEED_START - VALIDATION_CHIP_SEED_START


def check_chips(field: str, chips: int) -> None:
    """Raises UserError for fewer chips than one, or more than there are seeds."""
    if chips < 1:
        raise UserError(f"{field}={chips} must be at least 1; 10 or more for a result.")
    if chips > MAX_CHIPS:
        raise UserError(f"{field}={chips} must be at most {MAX_CHIPS:,}: there are no more seeds.")


#: For each split: Lightning's name, and the first seed of its chips.
_SPLITS = {"test": ("test", CHIP_SEED_START), "val": ("validate", VALIDATION_CHIP_SEED_START)}


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of :func:`hwaware.evaluation.networks.evaluate_networks`.

    Attributes:
        placements: hardware placements to evaluate, one after the other.
        ages_s: ages (s); 0 is just written.
        n_chips: number of chips for each network on each placement.
        methods: repairs of the chips; each network is scored without repair and with each of them.
        schedule: schedule of drift levels for offline methods; None: each age ends a level.
        narrowed: criteria for narrowing the lifetime: further ages are evaluated until it is known within a factor of
            two for the first metric, without repair and with in-field repairs. None: only the given ages.
        draw_constants: each chip draws its devices' constants from their bootstrap uncertainty, so that accuracies
            include it.
        keep_hits: keep the hits of each chip at each age, for gains with an interval over samples as well.
        split: ``test``, or ``val`` for choosing settings, with other samples and other chips.
        resume: ``rows.partial.csv`` of an interrupted evaluation, to continue from.
        recipe, seed: name and seed of the run, for the rows.

    Raises:
        UserError: a value is out of range, or repairs would be scored on the samples that they are fitted on.
    """

    placements: tuple[Placement, ...]
    ages_s: tuple[float, ...] = DEFAULT_AGES_S
    n_chips: int = 10
    methods: tuple[Compensation, ...] = ()
    schedule: Schedule | None = None
    narrowed: Criteria | None = None
    draw_constants: bool = False
    keep_hits: bool = False
    split: Literal["test", "val"] = "test"
    resume: str | None = None
    recipe: str = "run"
    seed: int = 0

    def __post_init__(self) -> None:
        check_chips("n_chips", self.n_chips)
        if len(set(self.placements)) < len(self.placements):
            raise UserError("evaluation.hardware has the same hardware twice: leave one out.")
        if self.keep_hits and self.resume:
            raise UserError("evaluation.keep_hits: the resumed rows have no hits; start anew, or drop keep_hits.")
        for device in (one.device for placement in self.placements for one in placement.every):
            if self.draw_constants and device.bootstrap is None:
                raise UserError(
                    f"evaluation.draw_constants: device '{device.name}' does not state the error of its constants "
                    "(bootstrap); files of hwaware device fit do."
                )
        learning = [method.name for method in self.methods if method.samples_kept]
        if self.split == "val" and self.methods and (learning or self.schedule):
            what = learning[0] if learning else "a schedule"
            raise UserError(
                f"evaluation.split val: {what} is fitted on validation samples, and would be scored on the same ones. "
                "Evaluate it on the test samples, or use methods that need no validation samples, without a schedule."
            )
        for placement in self.placements:
            ages_s = self.ages_of(placement)
            if self.methods and ages_s[-1] == 0:
                raise UserError("evaluation.ages_s [0]: a chip just written is not repaired; give an age above 0.")

    @property
    def stage(self) -> str:
        """Lightning's word for the split."""
        return _SPLITS[self.split][0]

    @property
    def chip_seeds(self) -> range:
        """The chips."""
        start = _SPLITS[self.split][1]
        return range(start, start + self.n_chips)

    def ages_of(self, placement: Placement) -> tuple[float, ...]:
        """The ages (s) to evaluate for a placement's devices; see :func:`ages_to_evaluate`."""
        return ages_to_evaluate([hardware.device for hardware in placement.every], self.ages_s)

    def labels(self, task: HardwareAwareTask, datamodule: LightningDataModule, network: str) -> RunLabels:
        """Labels that identify the run in the rows of a network."""
        dataset = dataset_name(datamodule) + ("" if self.split == "test" else f" ({self.split})")
        return RunLabels(recipe=self.recipe, model=task.network_name, network=network, dataset=dataset, seed=self.seed)

    def check_network(self, task: HardwareAwareTask) -> None:
        """Raises UserError if a method does not apply to the task's network, or the task has no hits to keep."""
        if self.keep_hits and task.hits is None:
            raise UserError(
                f"evaluation.keep_hits: {type(task).__name__} has no hits for single samples; image classification has."
            )
        for method in self.methods:
            method.check(task.network)
        self._refuse_same(task)

    def _refuse_same(self, task: HardwareAwareTask) -> None:
        """Raises UserError for placements that are written differently but equal for this network."""
        seen = set()
        for placement in self.placements if len(self.placements) > 1 else ():
            converted = to_digital(copy.deepcopy(task.network).to("meta"))
            task.convert(converted, placement)
            main = main_hardware(converted)
            if (held := (main.device.name, main.encoding.mapping, held_by(converted))) in seen:
                raise UserError(f"evaluation.hardware has {main} twice for this network's layers: leave one out.")
            seen.add(held)

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Raises UserError if methods need more stored images than there are."""
        if not self.methods:
            return
        samples: Samples = samples_to_fit(datamodule)
        samples.setup("fit")
        for method in self.methods:
            if (images := _stored(method)) > samples.n_val:
                raise UserError(
                    f"{method.name}: images={images}, but there are only {samples.n_val} validation samples, "
                    "which stored ones are taken from."
                )


def _stored(method: Compensation) -> int:
    """Number of validation samples that a method stores in the field."""
    return method.samples_kept if isinstance(method, InFieldCompensation) else 0
