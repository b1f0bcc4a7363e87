"""Stops training that has diverged."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from hwaware.errors import UserError


class StopAtDivergence(Callback):
    """Raises UserError when the loss is not finite.

    The loss is checked every ``log_every_n_steps`` steps, before each checkpoint and at the end, so no file ever
    contains a diverged network.
    """

    _loss: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._loss = outputs["loss"]
        if trainer.global_step % trainer.log_every_n_steps == 0:
            self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._loss is not None and not self._loss.isfinite():
            raise UserError(
                f"training diverged: the loss is {self._loss.item()} at step {trainer.global_step}. "
                "Use a smaller learning rate (model.optimizer.init_args.lr) or trainer.gradient_clip_val 1."
            )
