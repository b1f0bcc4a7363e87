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
from hwaware.evaluation.leave import leave
from hwaware.evaluation.networks import evaluate_networks
from hwaware.evaluation.resume import PartialRows
from hwaware.evaluation.run import Run
from hwaware.evaluation.settings import EvaluationSettings
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

    Every network, hardware and age meets the same chips. Several processes share them out; the rows are those of a
    single one. Networks are judged by their effective weights, as ``model.safetensors`` holds them, converted anew for
    each hardware, so that ``hwaware drift --weights`` repeats the rows of the run's end.

    Args:
        ages_s: ages in s; 0 is just written.
        n_chips: chips per hardware and network.
        networks: which of ``base_uncorrected`` (the pretrained network, not compensated for the I-V curve), ``base``
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
        narrow_life: evaluate further ages, between those at which that happens, until they are within a factor of two.
        draw_constants: each chip draws its device's constants from the fits to drawn cells that a file of ``hwaware
            device fit`` keeps, so that accuracies have the spread that the readings leave open.
        keep_hits: write ``hits.npz``: which samples each chip had right at each age, a bit each. Gains over the base
            then have an interval over samples as well as over chips. Not by default: it is larger than all rows.
        loss_points: points below base digital that end a network's life, and take a chip off the yield.
        percentile: the chip that is reported beside the mean (5: 5 % of the chips are less accurate), where there are
            enough chips to tell it: 20 for the 5th, 100 for the 1st. Of fewer it is the worst one.
        yield_percent: chips (percent) that have to lose at most loss_points, such as 99; lives then end where fewer do.
            None: where the mean over chips loses more.
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
            raise UserError(f"finetuned_as='{finetuned_as}' is the name of another network; 'finetuned' is usual.")
        check_name(finetuned_as, "finetuned_as")
        if every_n_epochs is not None and every_n_epochs < 1:
            raise UserError(f"every_n_epochs={every_n_epochs} must be at least 1; null evaluates at the end only.")
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
        run = replace(Run.of(trainer), folder=None)  # what the run leaves is of its end
        found = evaluate_networks(run, task, trainer.datamodule, networks, base, settings)
        values: dict[str, list[float]] = {}
        for same in by_setting(found.rows).values():
            where = device_slug(same, found.rows)
            for row in same:
                values.setdefault(f"drift/{where}/{age_label(row.age_s)}/{row.metric}", []).append(row.value)
        for logger in trainer.loggers:
            logger.log_metrics({key: sum(v) / len(v) for key, v in values.items()}, step=trainer.global_step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not on_train_end, which a run that is resumed after its last step never reaches.
        if not trainer.fast_dev_run and self.networks and self.is_due(task := task_of(pl_module)):
            base = task.build_network()
            networks = self.choose(base, finetuned_network(task))
            for logger in trainer.loggers:
                logger.save()  # so that the report has the whole learning curve
            self.run(Run.of(trainer), task, trainer.datamodule, networks, base, task.placement)

    # What the commands use as well.

    def is_due(self, task: HardwareAwareTask) -> bool:
        """Whether there is hardware to evaluate on: not in plain digital training."""
        return bool(self.hardware) or task.placement is not None

    def settings(self, task: HardwareAwareTask, **otherwise: Any) -> EvaluationSettings:
        """What is evaluated of a task's networks; some of it otherwise.

        Raises:
            UserError: there is no hardware, or what would be evaluated would fail or say something untrue.
        """
        if self.hardware:
            placements = tuple(one.beside(task.hardware) for one in self.hardware)
        elif task.placement is not None:
            placements = (task.placement,)
        else:
            raise UserError("there is no hardware to age: give one, e.g. --model.hardware.device.name reram_cmo.")
        return EvaluationSettings(placements=placements, **self._settings | otherwise)

    def check(self, task: HardwareAwareTask) -> None:
        """Raises UserError for what would otherwise fail after training, or say something untrue."""
        self.settings(task).check_network(task)

    def check_data(self, task: HardwareAwareTask, datamodule: LightningDataModule) -> None:
        """Raises UserError where methods ask for more stored images than there are, or there is nothing to resume."""
        settings = self.settings(task)
        datamodule.setup(settings.stage)
        PartialRows(None, settings, task, datamodule)
        settings.check_data(datamodule)

    def choose(self, base: nn.Module, finetuned: nn.Module | None) -> dict[str, nn.Module]:
        """The digital networks to evaluate by their names in results; ``finetuned`` may be missing."""
        given = {"base_uncorrected": base, "base": base, "finetuned": finetuned}
        named = {self.finetuned_as if name == "finetuned" else name: given[name] for name in self.networks}
        networks = {name: network for name, network in named.items() if network is not None}
        missing = [name for name in self.networks if given[name] is None]
        if missing and networks:
            whose = "digital" if finetuned is None else "finetuned"
            rank_zero_info(f"left out: {', '.join(missing)}, since the weights that are given are a {whose} network's")
        if not networks:
            raise UserError("there is no network to age: evaluation.networks names none of those that are given.")
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
        """Evaluates networks of :meth:`choose` against ``base``, and leaves rows, plots and tables.

        ``trained`` is what the finetuned one was finetuned for, where that is known.
        """
        settings = self.settings(task)
        found = evaluate_networks(run, task, datamodule, networks, base, settings)
        finetuned = {} if trained is None or self.finetuned_as not in networks else {self.finetuned_as: trained}
        leave(run, task, found, settings, [*networks.values()][-1], self.criteria, finetuned)
        return found.rows


def finetuned_network(task: HardwareAwareTask) -> nn.Module:
    """A digital copy of the task's network, with its effective weights, bit for bit as its files give it back.

    For all processes, where it is sharded.
    """
    network = to_digital(task.copy_network())
    if task.adapters is None:
        return network
    state, gain = adapter_state(network), task.adapters.gain
    return split_adapters(merge_adapters(network), state, gain)
