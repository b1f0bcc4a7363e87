"""A tiny network in timm's registry, and callbacks that kill their process or tell of it: for tests of commands."""

from __future__ import annotations

import os
import resource
import signal
from io import BytesIO
from typing import Any, BinaryIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class TinyNet(nn.Module):
    """Two convolutions with batch norm and a linear layer, for 8×8 images."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 16 * 16
        self.conv1 = nn.Conv2d(in_chans, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16 * 16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn1(self.conv1(images)).relu()
        return self.linear(self.bn2(self.conv2(features)).relu().flatten(1))


_CFG = {
    "num_classes": 10,
    "input_size": (3, 8, 8),
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "first_conv": "conv1",
    "classifier": "linear",
}
_VIT_CFG = {**_CFG, "first_conv": "patch_embed.proj", "classifier": "head"}
default_cfgs = generate_default_cfgs({"tiny_test_net": _CFG, "tiny_test_vit": _VIT_CFG})


@register_model
def tiny_test_net(pretrained: bool = False, **kwargs: Any) -> TinyNet:
    return build_model_with_cfg(TinyNet, "tiny_test_net", pretrained, **kwargs)


@register_model
def tiny_test_vit(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Two blocks of a vision transformer."""
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 20, "depth": 2, "num_heads": 2, "num_classes": 10}
    return build_model_with_cfg(VisionTransformer, "tiny_test_vit", pretrained, **{**sizes, **kwargs})


class SaveEachRank(Callback):
    """Writes each process's network to ``rank_N.pt`` in the working directory when all is done."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        torch.save(pl_module.network.state_dict(), f"rank_{trainer.global_rank}.pt")


class KillAt(Callback):
    """SIGKILL, which no handler sees, at a point of the run.

    Args:
        step: optimiser step.
        point: ``batch_start``, ``batch_end`` (before a checkpoint of that step is written), ``saving`` (the checkpoint
            is half written) or ``end`` (trained, but the weights are not written yet).
    """

    def __init__(self, step: int, point: str) -> None:
        self.step, self.point = step, point

    def _kill(self, trainer: Trainer, point: str) -> None:
        if self.point == point and trainer.global_step >= self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._kill(trainer, "batch_start")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._kill(trainer, "batch_end")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.point == "saving" and trainer.global_step >= self.step:
            save = torch.save

            def half(checkpoint: dict[str, Any], file: BinaryIO) -> None:
                whole = BytesIO()
                save(checkpoint, whole)
                file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)

            torch.save = half

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._kill(trainer, "end")


class Killed(BaseException):
    """Stands for SIGKILL where a process of its own would take too long."""


class DieAt(Callback):
    """Raises :class:`Killed` once so many micro-batches are done, all epochs counted.

    Args:
        batches: how many.
        after_saving: after the checkpoint of the last one, where there is one to be written; else before.
    """

    def __init__(self, batches: int, after_saving: bool = True) -> None:
        self.batches, self.after_saving = batches, after_saving

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.after_saving and self._done(trainer) > self.batches:  # the one that starts is counted already
            raise Killed

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.after_saving and self._done(trainer) >= self.batches:
            raise Killed

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._done(trainer) >= self.batches:
            raise Killed

    @staticmethod
    def _done(trainer: Trainer) -> int:
        return trainer.fit_loop.total_batch_idx + 1


class FillDisk(Callback):
    """Lets no file grow beyond some bytes once so many optimiser steps are done, as a disk that is full."""

    def __init__(self, step: int, max_bytes: int = 10_000) -> None:
        self.step, self.max_bytes = step, max_bytes

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.max_bytes, resource.RLIM_INFINITY))


class SignalAt(Callback):
    """Sends this process a signal in the midst of an optimiser step, after so many are done.

    Args:
        step: how many.
        number: of the signal.
        rank: of the process that gets it; None: all.
    """

    def __init__(self, step: int, number: int = 15, rank: int | None = None) -> None:
        self.step, self.number, self.rank = step, number, rank
        self._sent = False

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if trainer.global_step == self.step and self.rank in (None, trainer.global_rank) and not self._sent:
            self._sent = True  # micro-batches follow within the step
            os.kill(os.getpid(), self.number)
