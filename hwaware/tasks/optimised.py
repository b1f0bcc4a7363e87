"""The optimiser of a task: its groups of parameters, their learning rates and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hwaware.tasks.network_task import NetworkTask
from hwaware.training import RangeLearning, layer_depths, optimizer_in_groups, scaled_rates

#: Called with the optimiser and the run's number of optimiser steps; stepped once per optimiser step. Any scheduler
#: fits whose second argument is its length: ``CosineAnnealingLR``, ``PolynomialLR``,
#: :class:`~hwaware.tasks.WarmupCosine`.
SchedulerCallable = Callable[[Optimizer, int], LRScheduler]


class Optimised(NetworkTask):
    """A task with the recipe's optimiser and scheduler."""

    lr_scale: dict[str, float]
    layer_decay: float | None
    range_learning: RangeLearning | None
    optimizer_callable: OptimizerCallable | None
    scheduler_callable: SchedulerCallable | None

    def make_optimizer(self) -> Optimizer:
        """A new optimiser over all trainable parameters, in groups of equal learning rate."""
        named = {name.removeprefix("network."): one for name, one in self.named_parameters() if one.requires_grad}
        by_depth = self.layer_rates() if self.layer_decay is not None else {}
        by_name = scaled_rates(self.network, self.lr_scale)
        rates = {name: by_depth.get(name, 1.0) * by_name.get(name, 1.0) for name in named}
        ranges = {name for name in named if name.startswith("range_parameters.")}
        if self.range_learning is not None:
            rates |= dict.fromkeys(ranges, self.range_learning.rate)
        return optimizer_in_groups(
            self.optimizer_of, named, rates, lambda name, one: name not in ranges and self.decays(name, one)
        )

    def layer_rates(self) -> dict[str, float]:
        """Factor on the learning rate of each parameter, by name, from its depth in the network."""
        decay = self.layer_decay or 1.0
        return {name: decay**depth for name, depth in layer_depths(self.network).items()}

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether a parameter gets the optimiser's weight decay."""
        return True

    def optimizer_of(self, parameters: Iterable[Any]) -> Optimizer:
        """The recipe's optimiser over parameters or parameter groups."""
        make = self.optimizer_callable or (lambda parameters: SGD(parameters, lr=0.01, momentum=0.9))
        return make(parameters)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer()
        if self.scheduler_callable is None:
            return {"optimizer": optimizer}
        scheduler = self.scheduler_callable(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
