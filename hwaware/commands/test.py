"""``hwaware test``: the exact network on the test samples."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, Trainer

from hwaware.commands.steps import say_data, try_data
from hwaware.tasks import HardwareAwareTask


def run(
    trainer: Trainer, task: HardwareAwareTask, datamodule: LightningDataModule, ckpt_path: str | None = None
) -> None:
    """Scores the network with its exact effective weights: no noise, no drift.

    Args:
        trainer: runs the loop and prints the metrics.
        task: the task of the network.
        datamodule: the data.
        ckpt_path: a ``.ckpt`` with the weights to score; ``last`` is the recipe's latest.
    """
    try_data(trainer, task, datamodule, "test", ckpt_path)
    say_data(datamodule)
    trainer.test(task, datamodule=datamodule, ckpt_path=ckpt_path)
