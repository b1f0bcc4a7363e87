"""Mapping-aware biased training: constrains important columns in each epoch, and keeps the best network."""

from __future__ import annotations

import copy
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from hwaware.errors import UserError
from hwaware.evaluation.batches import Batches
from hwaware.evaluation.run import Run
from hwaware.tasks import HardwareAwareTask
from hwaware.tasks.of_module import task_of
from hwaware.training.bias import MappingBias, add_sensitivity, choose_columns, project_columns_


class BiasColumns(Callback):
    """Projects the most important columns at the end of each epoch, or after each step from the second epoch on.

    Training continues from the projected weights, which the epoch's checkpoint and validation also use, and ends with
    those of the best epoch. The best epoch is chosen here, on all validation samples and every rank, by the first
    metric of the task's ``score`` (in a tie, the earlier epoch), since Lightning skips the validation of an epoch if a
    run resumes after its last step.

    Args:
        bias: settings of the constraint.
    """

    def __init__(self, bias: MappingBias) -> None:
        self.bias = bias
        self._sums: dict[str, Tensor] = {}  # of an epoch in which columns will be chosen
        self._columns: dict[str, Tensor] = {}
        self._best: dict[str, Tensor] = {}
        self._best_score = -math.inf
        self._within_epoch = False
        self._batches: Batches | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, HardwareAwareTask) or trainer.datamodule is None:
            raise UserError(
                "BiasColumns scores each epoch's network: it needs a task of hwaware.tasks and a LightningDataModule "
                "(trainer.fit(task, datamodule=…)), such as those of hwaware.data."
            )

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._choosing:
            add_sensitivity(self._sums, task_of(pl_module).network)  # gradients are not clipped yet

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._within_epoch = not trainer.is_last_batch
        if not self._within_epoch:
            self._conclude(trainer, task_of(pl_module))
        elif not self._choosing:
            project_columns_(task_of(pl_module).network, self._columns, self.bias)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in on_train_end, which a run that resumes after its last step never reaches.
        if self._within_epoch:
            self._conclude(trainer, task_of(pl_module), log=False)
        if self._best:
            task_of(pl_module).network.load_state_dict(self._best)

    def state_dict(self) -> dict[str, Any]:
        return {
            "sums": self._sums,
            "columns": self._columns,
            "within_epoch": self._within_epoch,
            "best": self._best,
            "best_score": self._best_score,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums, self._columns = dict(state_dict["sums"]), dict(state_dict["columns"])
        self._within_epoch = state_dict["within_epoch"]
        self._best, self._best_score = dict(state_dict["best"]), state_dict["best_score"]

    @property
    def _choosing(self) -> bool:
        return self.bias.each == "epoch" or not self._columns

    def _conclude(self, trainer: Trainer, task: HardwareAwareTask, log: bool = True) -> None:
        task.settle()
        if self._choosing:
            self._columns, self._sums = choose_columns(self._sums, self.bias), {}
        changed = project_columns_(task.network, self._columns, self.bias)
        if log:  # Lightning logs nothing after the end of training
            columns = sum(float(chosen.sum()) for chosen in self._columns.values())
            values = {"train/bias_changed": changed, "train/bias_columns": columns}
            task.log_dict(values, on_step=False, on_epoch=True)
        if trainer.fast_dev_run:
            return
        score = trainer.strategy.broadcast(self._score(trainer, task))  # ranks must agree to the last digit
        if score > self._best_score:
            self._best_score = score
            self._best = {key: value.detach().cpu().clone() for key, value in task.network.state_dict().items()}

    def _score(self, trainer: Trainer, task: HardwareAwareTask) -> float:
        run = Run.of(trainer)
        if self._batches is None:
            trainer.datamodule.setup("validate")
            self._batches = Batches(trainer.datamodule, "val", run.torch_device)
        network = copy.deepcopy(task.network).eval()  # a copy, since calibration is only for these weights
        with run.precision():
            task.calibrate(network, trainer.datamodule)
            return next(iter(task.score(network, self._batches).values()))
