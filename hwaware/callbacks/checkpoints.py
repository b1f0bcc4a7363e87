"""Atomic checkpoints, from which a run resumes bit for bit."""

from __future__ import annotations

import signal
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from hwaware.errors import UserError
from hwaware.results.files import replacing
from hwaware.system.signals import Noted, Stopped, release_launched


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its final path and then moves it there: the old file stays until the new one is whole.

    Lightning writes to ``TMPDIR`` first. From another file system the move is a copy, which may be interrupted.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if get_protocol(str(path)) != "file":  # a bucket, which only takes whole files
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(path) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's error for a file that can't be written
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, but only between optimiser steps, and once more when a signal ends the run.

    Within a step with several micro-batches, a checkpoint would lack the accumulated gradients. Lightning writes such
    checkpoints after a resume, for a time interval, or after a validation.

    After SIGTERM or Ctrl-C, the current step or validation is finished. A signal to one process ends all.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signal = Noted()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal.begin()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._signal.begin()
        every, micro_batches = trainer.val_check_batch, trainer.accumulate_grad_batches
        if self.monitor is not None and every not in (None, float("inf")) and every % micro_batches:
            raise UserError(
                f"checkpoint.monitor '{self.monitor}': validation every {every} batches is not between optimiser "
                f"steps, which take {micro_batches} (trainer.val_check_interval, trainer.accumulate_grad_batches)."
            )
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if is_between_steps(trainer):
            super().on_train_batch_end(trainer, pl_module, *args)
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._save_last_of_epoch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_between_steps(trainer):
            super().on_validation_end(trainer, pl_module)
            if not self._should_save_on_train_epoch_end(trainer):
                self._save_last_of_epoch(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_between_steps(trainer):
            super().on_train_end(trainer, pl_module)
            self._stop_if_asked(trainer)
        self._signal.end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._signal.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._signal.end()
        super().on_exception(trainer, pl_module, exception)

    def _save_last_of_epoch(self, trainer: Trainer) -> None:
        """Saves ``last.ckpt`` with ``every_n_epochs``; Lightning only does so if others are kept (``save_top_k``)."""
        due = self._every_n_epochs >= 1 and (trainer.current_epoch + 1) % self._every_n_epochs == 0
        if due and self.save_top_k == 0 and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if not trainer.strategy.reduce_boolean_decision(bool(self._signal.number), all=False):
            return
        release_launched(trainer)
        if self._last_global_step_saved != trainer.global_step:
            self.save_last = True  # whichever others are kept
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        raise Stopped(self._signal.number or signal.SIGTERM)


def is_between_steps(trainer: Trainer) -> bool:
    """Whether no gradients of micro-batches are pending."""
    done, n_batches = trainer.fit_loop.batch_idx + 1, trainer.num_training_batches
    return trainer.is_last_batch or done == n_batches or done % trainer.accumulate_grad_batches == 0
