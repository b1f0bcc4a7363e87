"""``hwaware compare``: like :mod:`hwaware.commands.drift`, with the same chips also for each repair."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, Trainer

from hwaware.callbacks import DriftEvaluation
from hwaware.commands import drift
from hwaware.errors import UserError
from hwaware.results.row import Row
from hwaware.tasks import HardwareAwareTask


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    evaluation: DriftEvaluation,
    weights: str | None = None,
    ckpt_path: str | None = None,
) -> list[Row]:
    """Accuracy of networks on ageing chips, without repair and with each repair in ``evaluation.methods``.

    Args:
        trainer: the trainer; its processes share the chips.
        task: the task; its pretrained network is ``base``.
        datamodule: the data.
        evaluation: networks, ages, chips and repairs.
        weights: weights to evaluate: a run's ``model.safetensors`` (``finetuned``), or a plain file (timm,
            transformers), which replaces ``base``.
        ckpt_path: a run's ``.ckpt`` to evaluate instead; ``last`` is the recipe's latest.
    """
    if not evaluation.methods:
        raise UserError("there is nothing to compare: evaluation.methods is empty; give repairs such as [BnAdaBs].")
    return drift.run(trainer, task, datamodule, evaluation, weights, ckpt_path)
