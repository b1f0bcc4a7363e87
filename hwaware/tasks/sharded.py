"""A task whose network may lie in shards on several processes."""

from __future__ import annotations

import copy

from torch import nn

from hwaware.tasks.fully_sharded import refuse_unfit
from hwaware.tasks.network_task import NetworkTask
from hwaware.training import MappingBias, RangeLearning
from hwaware.training.sharding import shard, whole_copy


class Sharded(NetworkTask):
    """Shards the network where the Trainer's strategy is ``fsdp2``, and makes it whole again."""

    bias: MappingBias | None
    range_learning: RangeLearning | None
    #: Of the network, while its parameters lie in shards: in a tuple, so that it is no part of the task.
    _structure: tuple[nn.Module, ...] = ()

    @property
    def is_sharded(self) -> bool:
        """Whether the network's parameters lie in shards now."""
        return bool(self._structure)

    def configure_model(self) -> None:
        """Lightning's hook, in every process: shards the network, where the Trainer's strategy is ``fsdp2``."""
        if self.device_mesh is not None and not self._structure:
            refuse_unfit(self.trainer, self)
            self._structure = (shard(self.network, self.device_mesh["data_parallel"]),)

    def copy_network(self) -> nn.Module:
        """A copy of the whole network. For all processes, where it is sharded."""
        return whole_copy(self.network, *self._structure) if self._structure else copy.deepcopy(self.network)

    def make_whole(self) -> None:
        """Undoes the sharding. For all processes."""
        if self._structure:
            self.network = self.copy_network()
            self._structure, self._device_mesh = (), None
