"""A task whose network may be sharded over several processes."""

from __future__ import annotations

import copy

from torch import nn

from hwaware.tasks.fully_sharded import refuse_unfit
from hwaware.tasks.network_task import NetworkTask
from hwaware.training import MappingBias, RangeLearning
from hwaware.training.sharding import shard, whole_copy


class Sharded(NetworkTask):
    """Shards the network if the Trainer's strategy is ``fsdp2``, and makes it whole again."""

    bias: MappingBias | None
    range_learning: RangeLearning | None
    #: Structure of the network while it is sharded; in a tuple, so that it is not a submodule of the task.
    _structure: tuple[nn.Module, ...] = ()

    @property
    def is_sharded(self) -> bool:
        """Whether the network is sharded now."""
        return bool(self._structure)

    def configure_model(self) -> None:
        """Lightning's hook, in every process: shards the network if the Trainer's strategy is ``fsdp2``."""
        if self.device_mesh is not None and not self._structure:
            refuse_unfit(self.trainer, self)
            self._structure = (shard(self.network, self.device_mesh["data_parallel"]),)

    def copy_network(self) -> nn.Module:
        """A copy of the whole network. If it is sharded, all processes must call this."""
        return whole_copy(self.network, *self._structure) if self._structure else copy.deepcopy(self.network)

    def make_whole(self) -> None:
        """Undoes the sharding. All processes must call this."""
        if self._structure:
            self.network = self.copy_network()
            self._structure, self._device_mesh = (), None
