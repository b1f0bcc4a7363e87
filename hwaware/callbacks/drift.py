"""Accuracy on ageing chips: at the end of training, every few epochs, and for ``hwaware drift``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from hwaware.callbacks.record import run_folder, wandb_loggers
from hwaware.chip import CHIP_SEED_START, VALIDATION_CHIP_SEED_START
from hwaware.compensation import Compensation, Repair, Schedule
from hwaware.data.contract import dataset_name
from hwaware.errors import UserError, nearest
from hwaware.evaluation.batches import Batches
from hwaware.evaluation.costs import cost_lines, level_lines
from hwaware.evaluation.evaluate import DEFAULT_AGES_S, ages_to_evaluate, score_drift_free
from hwaware.evaluation.figures import plot_device
from hwaware.evaluation.fitting import check_fits, fit_data
from hwaware.evaluation.progress import progress
from hwaware.evaluation.resume import PartialRows
from hwaware.evaluation.scoring import ChipScorer
from hwaware.evaluation.tracking import track
from hwaware.hardware import HardwareOptions, Placement
from hwaware.nn import to_digital
from hwaware.report.html import write_report
from hwaware.report.labels import age_label, device_slugs
from hwaware.report.run_folder import print_tables, write_results
from hwaware.results.costs import NAME as COSTS
from hwaware.results.costs import by_repair, write_costs
from hwaware.results.row import Row, RunLabels
from hwaware.results.summary import LOSS_POINTS
from hwaware.results.timetable import NAME as TIMETABLE
from hwaware.results.timetable import write_timetable
from hwaware.tasks import HardwareAwareTask

UNTRAINED = ("base_uncorrected", "base")
NETWORKS = (*UNTRAINED, "finetuned")

#: Lightning's word for each split.
_STAGES = {"test": "test", "val": "validate"}


class DriftEvaluation(Callback):
    """Programs a run's networks into simulated chips and scores them as the chips age.

    Every network, device and age meets the same chips. Several processes share them out; the rows are those of a single
    one. Networks are judged by their effective weights, as ``model.safetensors`` holds them, converted anew for each
    device, so that ``hwaware drift --weights`` repeats the rows of the run's end.

    Args:
        ages_s: ages in s; 0 is just written.
        n_chips: chips per device and network.
        networks: which of ``base_uncorrected`` (the pretrained network on cells that nobody told it about), ``base``
            (the pretrained network, pre-distorted for the cells) and ``finetuned`` (this run's).
        finetuned_as: what results call this run's network; an ablation's name.
        hardware: to judge on; None is what the task trains for. Where one says nothing of layers, the task's count.
        split: ``test``, or ``val`` while choosing between settings, which has other chips as well as other samples.
        every_n_epochs: also evaluate this run's network after every so many epochs, on validation samples and chips,
            and log its mean accuracies.
        methods: ways of repairing the chips (:mod:`hwaware.compensation`); each network is scored without any, and with
            each of them.
        schedule: when the methods that are fitted offline begin a new drift level; None: each age ends one.
        resume: ``rows.partial.csv`` of a comparison that was killed, to go on from; what it had finished is taken over.
        loss_points: points below base digital that end a network's life, and take a chip off the yield.
        recipe, seed: the run's name and seed, for the rows.
    """

    def __init__(
        self,
        ages_s: Sequence[float] = DEFAULT_AGES_S,
        n_chips: int = 10,
        networks: Sequence[str] = ("base", "finetuned"),
        finetuned_as: str = "finetuned",
        hardware: list[HardwareOptions] | None = None,
        split: Literal["test", "val"] = "test",
        every_n_epochs: int | None = None,
        methods: list[Compensation] | None = None,
        schedule: Schedule | None = None,
        resume: str | None = None,
        loss_points: float = LOSS_POINTS,
        recipe: str = "run",
        seed: int = 0,
    ) -> None:
        for network in networks:
            if network not in NETWORKS:
                raise UserError(f"evaluation network '{network}' is unknown. {nearest(network, NETWORKS)}")
        if finetuned_as in UNTRAINED:
            raise UserError(f"finetuned_as='{finetuned_as}' is the name of another network; 'finetuned' is usual.")
        if n_chips < 1:
            raise UserError(f"n_chips={n_chips} must be at least 1; 10 or more for a result.")
        if every_n_epochs is not None and every_n_epochs < 1:
            raise UserError(f"every_n_epochs={every_n_epochs} must be at least 1; null evaluates at the end only.")
        if not 0 < loss_points < 100:
            raise UserError(f"evaluation.loss_points={loss_points} must lie in (0, 100); 1 is usual.")
        self.loss_points = loss_points
        self.ages_s, self.n_chips = tuple(ages_s), n_chips
        self.networks = tuple(network for network in NETWORKS if network in networks)
        self.finetuned_as, self.hardware, self.split = finetuned_as, hardware, split
        self.methods, self.schedule, self.resume = tuple(methods or ()), schedule, resume
        self.every_n_epochs, self.recipe, self.seed = every_n_epochs, recipe, seed

    # What Lightning calls.

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or trainer.fast_dev_run or not self.is_due(pl_module):
            return
        pl_module.settle()
        networks = {self.finetuned_as: finetuned_network(pl_module)}
        base = pl_module.build_network()
        rows = self.rows(trainer, pl_module, trainer.datamodule, networks, base, split="val")
        values: dict[str, list[float]] = {}
        for row in rows:
            key = f"drift/{row.device}_{row.mapping}/{age_label(row.age_s)}/{row.metric}"
            values.setdefault(key, []).append(row.value)
        for logger in trainer.loggers:
            logger.log_metrics({key: sum(v) / len(v) for key, v in values.items()}, step=trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not on_train_end, which a run that is resumed after its last step never reaches.
        if not trainer.fast_dev_run and self.networks and self.is_due(pl_module):
            base = pl_module.build_network()
            self.run(trainer, pl_module, trainer.datamodule, self.choose(base, finetuned_network(pl_module)), base)

    # What both they and ``hwaware drift`` use.

    def is_due(self, task: HardwareAwareTask) -> bool:
        """Whether there is hardware to evaluate on: not in plain digital training."""
        return bool(self.hardware) or task.placement is not None

    def check(self, task: HardwareAwareTask) -> None:
        """Raises UserError for what would otherwise fail after training, or say something untrue."""
        samples = ("images", "questions")  # settings of methods that learn from validation samples
        learning = [method.name for method in self.methods if any(getattr(method, one, 0) for one in samples)]
        if self.split == "val" and self.methods and (learning or self.schedule):
            what = learning[0] if learning else "a schedule"
            raise UserError(
                f"evaluation.split val: {what} learns from validation samples, and would be scored on the same ones. "
                "Compare it on the test samples, or choose by methods that learn from none of them, without a schedule."
            )
        for placement in self._placements(task):
            ages_s = self._ages_s(placement)
            if self.methods and ages_s[-1] == 0:
                raise UserError("evaluation.ages_s [0]: a chip just written is not repaired; give an age above 0.")
        for method in self.methods:
            method.check(task.network)

    def check_data(self, task: HardwareAwareTask, datamodule: LightningDataModule) -> None:
        """Raises UserError where methods ask for more stored images than there are, or there is nothing to resume."""
        self._partial(task, datamodule)
        if not self.methods:
            return
        check_fits(datamodule)
        datamodule.setup("fit")
        for method in self.methods:
            if getattr(method, "images", 0) > datamodule.n_val:
                raise UserError(
                    f"{method.name}: images={method.images}, but there are only {datamodule.n_val} validation samples, "
                    "which stored ones are taken from."
                )

    @property
    def stage(self) -> str:
        """Lightning's word for the split."""
        return _STAGES[self.split]

    def choose(self, base: nn.Module, finetuned: nn.Module | None) -> dict[str, nn.Module]:
        """The digital networks to evaluate by their names in results; ``finetuned`` may be missing."""
        given = {"base_uncorrected": base, "base": base, "finetuned": finetuned}
        networks = {
            self.finetuned_as if name == "finetuned" else name: given[name]
            for name in self.networks
            if given[name] is not None
        }
        missing = [name for name in self.networks if given[name] is None]
        if missing and networks:
            rank_zero_info(f"left out, since no such weights are given: {', '.join(missing)}")
        if not networks:
            raise UserError("there is no network to age: evaluation.networks names none of those that are given.")
        return networks

    def run(
        self,
        trainer: Trainer,
        task: HardwareAwareTask,
        datamodule: LightningDataModule,
        networks: Mapping[str, nn.Module],
        base: nn.Module,
    ) -> list[Row]:
        """Evaluates, writes ``rows.csv`` and plots into the run's folder, and prints the tables.

        Args:
            networks: digital networks by name, see :meth:`choose`.
            base: the digital network that all are compared with.
        """
        rows = self.rows(trainer, task, datamodule, networks, base, self.methods)
        self._report(trainer, task, rows, [*networks.values()][-1])
        return rows

    def rows(
        self,
        trainer: Trainer,
        task: HardwareAwareTask,
        datamodule: LightningDataModule,
        networks: Mapping[str, nn.Module],
        base: nn.Module,
        methods: Sequence[Compensation] = (),
        split: str | None = None,
    ) -> list[Row]:
        """One row per network, device, method, chip, age and metric, in this order, the same on every rank."""
        torch_device, split = trainer.strategy.root_device, split or self.split
        datamodule.setup(_STAGES[split])
        batches = Batches(datamodule, split, torch_device)

        def score(network: nn.Module) -> dict[str, float]:
            with trainer.precision_plugin.forward_context():  # as Lightning's own validation
                return task.score(network, batches)

        def calibrate(network: nn.Module) -> None:
            with trainer.precision_plugin.forward_context():
                task.calibrate(network, datamodule)

        # In single precision, or autocast from it, whatever the parameters were trained in: as chips are programmed.
        for network in {id(network): network for network in (base, *networks.values())}.values():
            calibrate(network.to(torch_device, torch.float32).eval())
            if network is base:
                base_digital = score(base)
            network.cpu()
        placements = self._placements(task)
        start = {"test": CHIP_SEED_START, "val": VALIDATION_CHIP_SEED_START}[split]
        chip_seeds = range(start, start + self.n_chips)
        n_ages = sum(len(self._ages_s(placement)) for placement in placements)
        data = fit_data(trainer, task, datamodule) if methods else None
        partial = self._partial(task, datamodule, run_folder(trainer), networks) if methods else None
        self._repairs: list[tuple[Row, Repair]] = []
        rows = []
        n_own = len(range(trainer.global_rank, self.n_chips, trainer.world_size))
        n_scores = len(networks) * (1 + len(methods)) * n_ages * n_own
        with progress("ageing chips", n_scores, trainer.is_global_zero) as advance:
            scorer = ChipScorer(trainer, score, base_digital, batches.n_samples, chip_seeds, partial, advance)
            for name, network in networks.items():
                labels = RunLabels(network=name, **self._labels(task, datamodule))
                for placement in placements:
                    converted = copy.deepcopy(network).float()
                    task.convert(converted, placement, corrected=name != "base_uncorrected")
                    converted = converted.to(torch_device).eval()
                    calibrate(converted)
                    ages_s = self._ages_s(placement)
                    exact = score_drift_free(converted, score)
                    for method in (None, *methods):
                        repair, how = None, labels
                        if method is not None:
                            repair = Repair(method, converted, ages_s, data, self.seed, self.schedule)
                            how = replace(labels, method=method.name, method_params=repair.params)
                        rows += scorer.rows(converted, how, ages_s, exact, repair, rows)
                        if repair is not None:
                            self._repairs.append((rows[-1], repair))
        return rows

    def _labels(self, task: HardwareAwareTask, datamodule: LightningDataModule) -> dict[str, Any]:
        """What all rows of the run have in common."""
        dataset = dataset_name(datamodule) + ("" if self.split == "test" else f" ({self.split})")
        return {"recipe": self.recipe, "model": task.network_name, "dataset": dataset, "seed": self.seed}

    def _partial(
        self,
        task: HardwareAwareTask,
        datamodule: LightningDataModule,
        folder: Path | None = None,
        networks: Mapping[str, nn.Module] | None = None,
    ) -> PartialRows:
        hardware = [one for placement in self._placements(task) for one in placement.every]
        return PartialRows(folder, self.resume, self._labels(task, datamodule), hardware, networks)

    def _placements(self, task: HardwareAwareTask) -> list[Placement]:
        if self.hardware:
            return [one.beside(task.hardware) for one in self.hardware]
        if task.placement is None:
            raise UserError("there is no hardware to age: give one, e.g. --model.hardware.device.name reram_cmo.")
        return [task.placement]

    def _ages_s(self, placement: Placement) -> tuple[float, ...]:
        return ages_to_evaluate([hardware.device for hardware in placement.every], self.ages_s)

    def _report(self, trainer: Trainer, task: HardwareAwareTask, rows: list[Row], network: nn.Module) -> None:
        folder = run_folder(trainer)
        if not trainer.is_global_zero:
            return
        print_tables(rows, self.loss_points)
        if folder is None:
            return
        found, costs, levels = [], cost_lines(self._repairs), level_lines(self._repairs)
        if costs:
            found.append(write_costs(folder / COSTS, costs))
        if levels:
            found.append(write_timetable(folder / TIMETABLE, levels))
        for row, repair in self._repairs:
            missed = next((level for level in repair.levels if not level.reached), None)
            if missed is not None:
                what = f"{row.network} + {row.method}: {repair.n_sets} sets miss {repair.schedule.target_percent:g} %"
                found.append(f"{what} of the drift-free accuracy from {age_label(missed.start_s)} on")
        sections = write_results(rows, folder, by_repair(costs), task.chance_percent, self.loss_points)
        PartialRows.done(folder)
        cells = []
        for placement, name in zip(self._placements(task), device_slugs(rows), strict=True):
            converted = copy.deepcopy(network).float()
            task.convert(converted, placement)
            cells += plot_device(converted, self._ages_s(placement), folder, name)
        report = write_report(folder, sections, cells, by_repair(costs), self.loss_points)
        plots = [figure for section in sections for figure in section.figures] + cells
        for logger in wandb_loggers(trainer):
            track(logger.experiment, rows, costs, plots, folder)
        found = [f"{len(rows)} rows: {folder / 'rows.csv'}", f"summary: {folder / 'summary.csv'}", *found]
        print(*found, *(f"plot: {plot}" for plot in plots), f"report: {report}", sep="\n", flush=True)


def finetuned_network(task: HardwareAwareTask) -> nn.Module:
    """A digital copy of the task's network, with its effective weights."""
    return to_digital(copy.deepcopy(task.network))
