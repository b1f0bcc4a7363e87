"""From Lightning's module to a task of this package."""

from __future__ import annotations

from lightning.pytorch import LightningModule

from hwaware.errors import UserError
from hwaware.tasks.base import HardwareAwareTask


def task_of(module: LightningModule) -> HardwareAwareTask:
    """The module of a Trainer, as a task of this package.

    Raises:
        UserError: it is not a task.
    """
    if not isinstance(module, HardwareAwareTask):
        raise UserError(f"{type(module).__name__} is not a task of hwaware.tasks, which this callback needs.")
    return module
