"""``hwaware fit``: training, then evaluation on ageing chips. Settings and files are checked before it begins."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Timer

from hwaware.callbacks import DriftEvaluation
from hwaware.commands.resume_hint import resume_hint
from hwaware.commands.steps import say_data, try_data
from hwaware.errors import UserError
from hwaware.system.signals import with_launched
from hwaware.tasks import HardwareAwareTask


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    evaluation: DriftEvaluation,
    ckpt_path: str | None = None,
) -> None:
    """Trains the network; with hardware, evaluates it on chips afterwards.

    Args:
        trainer: runs the training; ``evaluation`` is one of its callbacks.
        task: the task to train.
        datamodule: the data.
        evaluation: the evaluation of the trained network.
        ckpt_path: a ``.ckpt`` to resume from; ``last`` is the recipe's latest.

    Raises:
        UserError: for a setting or file that training or evaluation would refuse. Nothing is written then.
    """
    _check_optimizer(trainer, task)
    judged = evaluation.is_due(task) and not trainer.fast_dev_run
    if judged:
        evaluation.check(task)
    try_data(trainer, task, datamodule, "fit", ckpt_path)
    datamodule.train_dataloader()
    if judged:
        _check_evaluation(task, datamodule, evaluation)
    say_data(datamodule)
    with with_launched(trainer), resume_hint(trainer, evaluation, ckpt_path):
        trainer.fit(task, datamodule=datamodule, ckpt_path=ckpt_path)


def _check_optimizer(trainer: Trainer, task: HardwareAwareTask) -> None:
    """Raises UserError for settings that the optimiser or the scheduler would refuse at the first step."""
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)
    if trainer.max_steps == -1 and trainer.max_epochs == -1 and not timed:
        raise UserError("training would never end: give trainer.max_steps or trainer.max_epochs.")
    try:
        task.make_optimizer()
    except (ValueError, TypeError) as error:
        raise UserError(f"model.optimizer: {error}") from None


def _check_evaluation(task: HardwareAwareTask, datamodule: LightningDataModule, evaluation: DriftEvaluation) -> None:
    if not task.is_pretrained:
        raise UserError(
            "there is no pretrained network to finetune for the device: give model.weights FILE (or, "
            "for timm's, model.pretrained true); to pretrain one, set model.hardware null."
        )
    evaluation.check_data(task, datamodule)
