"""``hwaware compare``: :mod:`hwaware.commands.drift`, and the same chips once more for each repair."""

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
    """Accuracy of networks on ageing chips, alone and with each repair that ``evaluation.methods`` names.

    Args:
        trainer: whose processes share the chips out.
        task: its own pretrained weights are ``base``.
        datamodule: the data.
        evaluation: which networks, ages, chips and repairs.
        weights: weights to age: a run's ``model.safetensors`` (``finetuned``), or a plain file (timm, transformers),
            which takes the place of ``base``.
        ckpt_path: a run's ``.ckpt`` to age instead; ``last`` is the recipe's latest.
    """
    if not evaluation.methods:
        raise UserError("there is nothing to compare: evaluation.methods names no way of repairing a chip.")
    return drift.run(trainer, task, datamodule, evaluation, weights, ckpt_path)
