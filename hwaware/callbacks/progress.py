"""The line that says how far training is."""

from __future__ import annotations

from lightning.pytorch.callbacks import RichProgressBar


class EpochsOrSteps(RichProgressBar):
    """Lightning's, which counts on to epoch -2 where there is no limit of epochs, but one of steps."""

    def _get_train_description(self, current_epoch: int) -> str:
        description = super()._get_train_description(current_epoch)
        return description.replace("/-2", "") if self.trainer.max_epochs == -1 else description
