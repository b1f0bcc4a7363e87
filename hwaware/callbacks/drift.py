"""Accuracy on ageing chips: at the end of training, every few epochs, and for ``hwaware drift``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from hwaware.compensation import Compensation, Schedule
from hwaware.errors import UserError, nearest
from hwaware.evaluation.evaluate import DEFAULT_AGES_S
from hwaware.evaluation.networks import evaluate_networks
from hwaware.evaluation.resume import PartialRows
from hwaware.evaluation.run import Run
from hwaware.evaluation.settings import EvaluationSettings
from hwaware.evaluation.write_results import write_results
from hwaware.hardware import HardwareOptions, Placement
from hwaware.nn import merge_adapters, to_digital
from hwaware.nn.adapters import adapter_state, split_adapters
from hwaware.report.labels import age_label, device_slug
from hwaware.results.criteria import LOSS_POINTS, Criteria
from hwaware.results.row import Row
from hwaware.results.setting import by_setting
from hwaware.system.names import check_name
from hwaware.tasks import HardwareAwareTask
from hwaware.tasks.of_module import task_of

UNTRAINED = ("base_uncorrected", "base")
NETWORKS = (*UNTRAINED, "finetuned")


class DriftEvaluation(Callback):
    """Programs a run's networks into simulated chips and scores them as the chips age.

    All networks, hardware and ages use the same chips. Several processes share the chips; the rows are the same as
    those of a single process. Networks are scored with their effective weights, as in ``model.safetensors``, converted
    anew for each hardware, so that ``hwaware drift --weights`` reproduces the rows of the end of the run.

    Args:
        ages_s: ages (s); 0 is just written.
        n_chips: number of chips per hardware and network.
        networks: any of ``base_uncorrected`` (the pretrained network, not compensated for the I-V curve), ``base``
            (the pretrained network, pre-distorted for the I-V curve) and ``finetuned`` (the network of this run).
        finetuned_as: name of this run's network in results, for an ablation.
        hardware: hardware to evaluate on; None: the hardware of the task. Unless it sets ``layers``, those of the task
            are used.
        split: ``test``, or ``val`` for choosing settings, with other samples and other chips.
        every_n_epochs: also evaluate this run's network every so many epochs, on validation samples and chips, and log
            its mean accuracies; None: only at the end.
        methods: repairs of the chips (:mod:`hwaware.compensation`); each network is scored without repair and with each
            of them.
        schedule: schedule of drift levels for offline methods; None: each age ends a level.
        resume: ``rows.partial.csv`` of an interrupted comparison, to continue from; its finished rows are kept.
        narrow_life: evaluate further ages until the lifetime is known within a factor of two.
        draw_constants: each chip draws its device's constants from the bootstrap fits in a file of ``hwaware device
            fit``, so that accuracies include the uncertainty of the constants.
        keep_hits: write ``hits.npz`` with one bit for each sample, chip and age: whether the sample was right. Gains
            over the base then have an interval over samples as well as chips. The file is larger than all rows.
        loss_points: accuracy loss (points below base digital) that ends the lifetime of a network, and beyond which a
            chip is not good.
        percentile: percentile over chips that is reported beside the mean (5: 5 % of the chips are less accurate). It
            needs enough chips: 20 for the 5th, 100 for the 1st; with fewer, the worst chip is reported.
        yield_percent: percentage of chips that must lose at most loss_points, such as 99; the lifetime ends when fewer
            do. None: it ends when the mean over chips loses more.
        recipe, seed: name and seed of the run, for the rows.
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
        narrow_life: bool = False,
        draw_constants: bool = False,
        keep_hits: bool = False,
        loss_points: float = LOSS_POINTS,
        percentile: float = 5.0,
        yield_percent: float | None = None,
        recipe: str = "run",
        seed: int = 0,
    ) -> None:
        for network in networks:
            if network not in NETWORKS:
                raise UserError(f"evaluation network '{network}' is unknown. {nearest(network, NETWORKS)}")
        if finetuned_as in UNTRAINED:
            raise UserError(
                f"finetuned_as='{finetuned_as}' is the name of another network; the default is 'finetuned'."
            )
        check_name(finetuned_as, "finetuned_as")
        if every_n_epochs is not None and every_n_epochs < 1:
            raise UserError(f"every_n_epochs={every_n_epochs} must be at least 1; null evaluates only at the end.")
        self.criteria = Criteria(loss_points, percentile, yield_percent)
        self.networks = tuple(network for network in NETWORKS if network in networks)
        self.finetuned_as, self.hardware = finetuned_as, hardware
        self.methods, self.schedule = tuple(methods or ()), schedule
        self.every_n_epochs, self.seed, self.resume = every_n_epochs, seed, resume
        self._settings: dict[str, Any] = {
            "ages_s": tuple(ages_s), "n_chips": n_chips, "methods": self.methods, "schedule": schedule,
            "narrowed": self.criteria if narrow_life else None, "keep_hits": keep_hits, "split": split,
            "draw_constants": draw_constants, "resume": resume, "recipe": recipe, "seed": seed,
        }  # fmt: skip

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or trainer.fast_dev_run or not self.is_due(task := task_of(pl_module)):
            return
        task.settle()
        networks, base = {self.finetuned_as: finetuned_network(task)}, task.build_network()
        settings = self.settings(task, split="val", methods=(), resume=None, keep_hits=False)
        run = replace(Run.of(trainer), folder=None)  # the run's files are those of its end
        found = evaluate_networks(run, task, trainer.datamodule, networks, base, settings)
        values: dict[str, list[float]] = {}
        for same in by_setting(found.rows).values():
            where = device_slug(same, found.rows)
            for row in same:
                values.setdefault(f"drift/{where}/{age_label(row.age_s)}/{row.metric}", []).append(row.value)
        for logger in trainer.loggers:
            logger.log_metrics({key: sum(v) / len(v) for key, v in values.items()}, step=trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in on_train_end, which a run that resumes after its last step never reaches.
        if not trainer.fast_dev_run and self.networks and self.is_due(task := task_of(pl_module)):
            base = task.build_network()
            networks = self.choose(base, finetuned_network(task))
            for logger in trainer.loggers:
                logger.save()  # so that the report has the whole learning curve
            self.run(Run.of(trainer), task, trainer.datamodule, networks, base, task.placement)

    # Also used by the commands.

    def is_due(self, task: HardwareAwareTask) -> bool:
        """Whether there is hardware to evaluate on; not in plain digital training."""
        return bool(self.hardware) or task.placement is not None

    def settings(self, task: HardwareAwareTask, **otherwise: Any) -> EvaluationSettings:
        """Settings for evaluating a task's networks; ``otherwise`` replaces some of them.

        Raises:
            UserError: there is no hardware, or the evaluation would fail or mislead.
        """
        if self.hardware:
            placements = tuple(one.beside(task.hardware) for one in self.hardware)
        elif task.placement is not None:
            placements = (task.placement,)
        else:
            raise UserError("there is no hardware to evaluate: give e.g. --model.hardware.device.name reram_cmo.")
        return EvaluationSettings(placements=placements, **self._settings | otherwise)

    def check(self, task: HardwareAwareTask) -> None:
        """Raises UserError for settings that would fail only after training, or mislead."""
        self.settings(task).check_network(task)

    def check_data(self, task: HardwareAwareTask, datamodule: LightningDataModule) -> None:
        """Raises UserError if methods need more stored images than there are, or there is nothing to resume."""
        settings = self.settings(task)
        datamodule.setup(settings.stage)
        PartialRows(None, settings, task, datamodule)
        settings.check_data(datamodule)

    def choose(self, base: nn.Module, finetuned: nn.Module | None) -> dict[str, nn.Module]:
        """The digital networks to evaluate, by their names in results; ``finetuned`` may be missing."""
        given = {"base_uncorrected": base, "base": base, "finetuned": finetuned}
        named = {self.finetuned_as if name == "finetuned" else name: given[name] for name in self.networks}
        networks = {name: network for name, network in named.items() if network is not None}
        missing = [name for name in self.networks if given[name] is None]
        if missing and networks:
            whose = "digital" if finetuned is None else "finetuned"
            rank_zero_info(f"left out: {', '.join(missing)}, since the given weights are those of a {whose} network")
        if not networks:
            raise UserError("there is no network to evaluate: evaluation.networks names none of the given ones.")
        return networks

    def run(
        self,
        run: Run,
        task: HardwareAwareTask,
        datamodule: LightningDataModule,
        networks: Mapping[str, nn.Module],
        base: nn.Module,
        trained: Placement | None = None,
    ) -> list[Row]:
        """Evaluates networks of :meth:`choose` relative to ``base``, and writes rows, plots and tables.

        ``trained`` is the hardware that the finetuned network was trained for, if known.
        """
        settings = self.settings(task)
        found = evaluate_networks(run, task, datamodule, networks, base, settings)
        finetuned = {} if trained is None or self.finetuned_as not in networks else {self.finetuned_as: trained}
        write_results(run, task, found, settings, [*networks.values()][-1], self.criteria, finetuned)
        return found.rows


def finetuned_network(task: HardwareAwareTask) -> nn.Module:
    """A digital copy of the task's network with its effective weights, bit-identical to a reloaded one.

    If the network is sharded, all processes must call this.
    """
    network = to_digital(task.copy_network())
    if task.adapters is None:
        return network
    state, gain = adapter_state(network), task.adapters.gain
    return split_adapters(merge_adapters(network), state, gain)
