"""A task whose network learns from the digital one that it starts from."""

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


class Taught(NetworkTask):
    """The loss, with distillation where it is on."""

    distillation: Distillation | None

    def loss_of(self, network: nn.Module, batch: Any, teach: Callable[[Any], Any] | None = None) -> Tensor:
        """What any network is trained by on one batch: the task's loss, mixed with the distillation's.

        Args:
            network: not only this task's.
            batch: of training.
            teach: see :meth:`teacher`; None leaves the distillation out.
        """
        output = self.predict(network, batch)
        loss = self.task_loss(output, batch)
        if teach is None or self.distillation is None:
            return loss
        with torch.no_grad():
            taught = teach(batch)
        a = self.distillation.weight
        return (1 - a) * loss + a * distillation_loss(output, taught, self.distillation.temperature)

    def teacher(self, device: torch.device, mesh: DeviceMesh | None = None) -> Callable[[Any], Any] | None:
        """What the digital network that this one starts from says to a batch; None without distillation.

        Args:
            device: where it runs.
            mesh: of the processes that it is sharded over, and that call it together; None: it is whole.
        """
        if self.distillation is None:
            return None
        network = self.build_network().eval().requires_grad_(False)
        if mesh is not None:
            shard(network, mesh)
        return partial(self.predict, network.to(device))
