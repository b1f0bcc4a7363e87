"""What Lightning leaves out when it resumes."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class BeginNextEpoch(Callback):
    """Lets a run that is resumed from the checkpoint of an epoch's last step begin the next epoch as any other.

    Lightning (2.6) counts the checkpoint's epoch as done, but takes the next one for the rest of it: its start is
    neither announced nor counted, so that a later checkpoint within it says that no epoch is under way. Killed there
    and resumed once more, the run would do the epoch's first steps twice.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop = trainer.fit_loop
        if loop.restarted_mid_epoch and loop.epoch_progress.total.processed == loop.epoch_progress.total.started:
            loop.reset_restart_stage()
