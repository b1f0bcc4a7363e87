"""Corrections of Lightning's resuming."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from hwaware.callbacks.checkpoints import is_between_steps
from hwaware.errors import UserError


class ResumeExactly(Callback):
    """Makes a resumed run continue and end like an uninterrupted one; must be the first callback.

    After the checkpoint of an epoch's last step, the next epoch begins like any other. Lightning (2.6) counts that
    epoch as done, but treats the next one as its remainder: the start of the next epoch is neither announced nor
    counted, so a later checkpoint within it says that no epoch is under way. A second resume from there would repeat
    the first steps of the epoch.

    After the checkpoint of the last step, the run ends with averaged weights if they are averaged. Lightning installs
    them at the end of training, which such a run does not reach.
    """

    _ended = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_between_steps(trainer):
            raise UserError(
                "the checkpoint was written within an optimiser step, so it lacks the gradients of its micro-batches: "
                "give another one (hwaware.callbacks.StepCheckpoint never writes such checkpoints)."
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
