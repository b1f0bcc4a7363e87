"""Training that went wrong is stopped, not finished."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from hwaware.errors import UserError


class StopAtDivergence(Callback):
    """Raises UserError when the loss is no longer a number; looked at every ``log_every_n_steps`` steps.

    Before the checkpoint of that step is written, so that the last one on disk is from before.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0 and not outputs["loss"].isfinite():
            raise UserError(
                f"training diverged: the loss is {outputs['loss'].item()} at step {trainer.global_step}. "
                "Take a smaller learning rate (model.optimizer.init_args.lr) or trainer.gradient_clip_val 1."
            )
