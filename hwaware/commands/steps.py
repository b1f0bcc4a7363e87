"""Steps that several commands share, before and after their own work."""

from __future__ import annotations

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from hwaware.callbacks import RunRecord
from hwaware.data import SampleData
from hwaware.errors import UserError
from hwaware.export.weights import load_weights, read_checkpoint
from hwaware.tasks import HardwareAwareTask
from hwaware.tasks.fully_sharded import refuse_unfit


def the_one(weights: str | None, ckpt_path: str | None) -> str | None:
    """The file with the network that a command was given; None if none was given."""
    for option, given in {"weights": weights, "ckpt_path": ckpt_path}.items():
        if given == "":
            raise UserError(f"--{option} is empty: give a file, or leave the option out.")
    if weights and ckpt_path:
        raise UserError("--weights and --ckpt_path exclude each other: give one of them.")
    return weights or ckpt_path


def given_network(task: HardwareAwareTask, file: str | None) -> nn.Module:
    """The digital network of a file, otherwise the task's pretrained one."""
    if not file and not task.is_pretrained:
        raise UserError("there is no network: give --weights, --ckpt_path or model.weights.")
    return load_weights(task, file)[1] if file else task.build_network()


def try_data(
    trainer: Trainer, task: HardwareAwareTask, datamodule: LightningDataModule, stage: str, ckpt_path: str | None
) -> None:
    """Reads the data that Lightning reads only after creating the run's folder, so that errors come first."""
    refuse_unfit(trainer, task)
    trainer.strategy.connect(task)
    datamodule.trainer = trainer
    datamodule.prepare_data()
    datamodule.setup(stage)
    if not ckpt_path:
        return
    checkpoint = read_checkpoint(ckpt_path, to_resume=stage == "fit")
    if stage == "fit" and bool(checkpoint["lr_schedulers"]) != (task.scheduler_callable is not None):
        one, other = ("none", "one") if task.scheduler_callable is not None else ("one", "none")
        raise UserError(f"checkpoint '{ckpt_path}' has {one} of 'lr_schedulers', and the recipe has {other}.")
    task.on_load_checkpoint(checkpoint)


def set_up(trainer: Trainer, task: HardwareAwareTask, datamodule: LightningDataModule) -> None:
    """The setup that Lightning's own entry points do before running a loop."""
    trainer.strategy.connect(task)
    trainer.strategy.setup_environment()
    task.trainer = datamodule.trainer = trainer


def set_up_alone(trainer: Trainer, task: HardwareAwareTask, datamodule: LightningDataModule) -> None:
    """:func:`set_up` of a command that runs in one process.

    Raises:
        UserError: there are several.
    """
    if trainer.world_size > 1:
        raise UserError(f"this command runs in one process, not in {trainer.world_size}: give --trainer.devices 1.")
    set_up(trainer, task, datamodule)


def say_data(datamodule: LightningDataModule) -> None:
    """Prints the number of samples of each split, in one line."""
    if isinstance(datamodule, SampleData):
        rank_zero_info(datamodule.described)


def write_record(trainer: Trainer, task: HardwareAwareTask, datamodule: LightningDataModule) -> None:
    """Writes the run's configuration and conversion report; prints a description of the data."""
    say_data(datamodule)
    for callback in trainer.callbacks:
        if isinstance(callback, RunRecord):
            callback.write(trainer, task)


def tear_down(trainer: Trainer, task: HardwareAwareTask) -> None:
    """Closes loggers and callbacks, whether the command succeeded or not."""
    for logger in trainer.loggers:
        logger.finalize("success")
    for callback in trainer.callbacks:
        callback.teardown(trainer, task, "test")
