"""A task whose network can be distilled from the digital network that it starts from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from hwaware.tasks.network_task import NetworkTask
from hwaware.training import Distillation, distillation_loss
from hwaware.training.sharding import shard


class Distilled(NetworkTask):
    """The training loss, with or without distillation."""

    distillation: Distillation | None

    def loss_of(self, network: nn.Module, batch: Any, teach: Callable[[Any], Any] | None = None) -> Tensor:
        """The training loss of a network on a batch: the task loss, mixed with the distillation loss.

        Args:
            network: any network, not only this task's.
            batch: a training batch.
            teach: see :meth:`teacher`; None: no distillation.
        """
        output = self.predict(network, batch)
        loss = self.task_loss(output, batch)
        if teach is None or self.distillation is None:
            return loss
        with torch.no_grad():
            target = teach(batch)
        a = self.distillation.weight
        return (1 - a) * loss + a * distillation_loss(output, target, self.distillation.temperature)

    def teacher(self, device: torch.device, mesh: DeviceMesh | None = None) -> Callable[[Any], Any] | None:
        """A function from a batch to the output of the initial digital network; None without distillation.

        Args:
            device: torch device that it runs on.
            mesh: mesh of the processes that it is sharded over, which must call it together; None: not sharded.
        """
        if self.distillation is None:
            return None
        network = self.build_network().eval().requires_grad_(False)
        if mesh is not None:
            shard(network, mesh)
        return partial(self.predict, network.to(device))
