"""``hwaware drift``: networks on ageing chips, without training."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, Trainer

from hwaware.callbacks import DriftEvaluation
from hwaware.commands.resume_hint import resume_hint
from hwaware.commands.steps import set_up, tear_down, the_one, write_record
from hwaware.errors import UserError
from hwaware.evaluation.run import Run
from hwaware.export.weights import finetuned_for, load_weights
from hwaware.results.row import Row
from hwaware.system.signals import with_launched
from hwaware.tasks import HardwareAwareTask


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    evaluation: DriftEvaluation,
    weights: str | None = None,
    ckpt_path: str | None = None,
) -> list[Row]:
    """Accuracy of networks on simulated chips, from the first second to years; only evaluates, does not train.

    Args:
        trainer: the trainer; its processes share the chips.
        task: the task; its pretrained network is ``base``.
        datamodule: the data.
        evaluation: networks, ages, chips and repairs.
        weights: weights to evaluate: a run's ``model.safetensors`` (``finetuned``), or a plain file (timm,
            transformers), which replaces ``base``.
        ckpt_path: a run's ``.ckpt`` to evaluate instead; ``last`` is the recipe's latest.
    """
    file, launcher = the_one(weights, ckpt_path), trainer.strategy.launcher
    with with_launched(trainer), resume_hint(trainer, evaluation):
        if launcher is None:
            return _drift(trainer, task, datamodule, evaluation, file)
        return launcher.launch(_drift, trainer, task, datamodule, evaluation, file, trainer=trainer)


def _drift(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    evaluation: DriftEvaluation,
    file: str | None,
) -> list[Row]:
    """The evaluation, on every process."""
    set_up(trainer, task, datamodule)
    evaluation.check(task)
    kind, network = load_weights(task, file) if file else ("base", None)
    base, finetuned = (network, None) if kind == "base" else (None, network)
    if base is None:
        if not task.is_pretrained:
            raise UserError("there is no base network to compare with: give model.weights or model.pretrained.")
        base = task.build_network()
    networks = evaluation.choose(base, finetuned)
    datamodule.prepare_data()
    evaluation.check_data(task, datamodule)
    write_record(trainer, task, datamodule)
    try:
        trained = finetuned_for(file) if file and kind == "finetuned" else None
        return evaluation.run(Run.of(trainer), task, datamodule, networks, base, trained)
    finally:
        tear_down(trainer, task)
