"""What Lightning leaves out when it resumes."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from hwaware.callbacks.checkpoints import is_between_steps
from hwaware.errors import UserError


class ResumeExactly(Callback):
    """Lets a run that is resumed go on, and end, as it would have; first of the callbacks.

    From the checkpoint of an epoch's last step it begins the next epoch as any other. Lightning (2.6) counts the
    checkpoint's epoch as done, but takes the next one for the rest of it: its start is neither announced nor counted,
    so that a later checkpoint within it says that no epoch is under way. Killed there and resumed once more, the run
    would do the epoch's first steps twice.

    From the checkpoint of the last step it ends with averaged weights, where they are averaged: Lightning puts them in
    place when training ends, which such a run does not do.
    """

    _ended = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_between_steps(trainer):
            raise UserError(
                "the checkpoint was written within an optimiser step, whose micro-batches' gradients it lacks: "
                "give another one (hwaware.callbacks.StepCheckpoint writes none there)."
            )
        loop = trainer.fit_loop
        if loop.restarted_mid_epoch and loop.epoch_progress.total.processed == loop.epoch_progress.total.started:
            loop.reset_restart_stage()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging) and not self._ended:
                callback.on_train_end(trainer, pl_module)
