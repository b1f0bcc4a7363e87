"""FSDP2 as the Trainer's strategy ``fsdp2``: a sharded training state, with the files and results of one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, Strategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from hwaware.errors import UserError
from hwaware.training import MappingBias, RangeLearning
from hwaware.training.sharding import gathered, refuse_shared_weights, sharded_like

NAME = "fsdp2"

#: Older ones cannot take the standard deviation of a sharded weight, and some lack methods of FSDP2.
OLDEST_TORCH = "2.10"


class FullySharded(ModelParallelStrategy):
    """Shards parameters, gradients and the optimiser's state over all processes.

    Checkpoints contain the whole state, with the keys of one process, so any strategy can resume from them. After a
    run, the task has a whole network again.
    """

    lightning_restore_optimizer = True

    def __init__(self) -> None:
        if torch.__version__ < OLDEST_TORCH:
            raise UserError(
                f"trainer.strategy {NAME} needs torch {OLDEST_TORCH} or newer; this is {torch.__version__}. "
                "--trainer.strategy ddp works with any."
            )
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        # Lightning's version needs a device mesh, which does not exist while data are checked before processes start.
        return {"num_replicas": self.num_nodes * self.num_processes, "rank": self.global_rank}

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self._whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return self._whole(super(ModelParallelStrategy, self).optimizer_state(optimizer))

    def _whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state with whole tensors, on the first process only; tensors that are not sharded are not copied."""

        def whole(value: Any) -> Any:
            if not isinstance(value, Tensor) or (one := gathered(value)) is value:
                return value
            return one.cpu() if self.is_global_zero else None

        return tree_map(whole, state)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        return self.checkpoint_io.load_checkpoint(checkpoint_path, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        own, given = self.lightning_module.state_dict(), checkpoint["state_dict"]
        state = {key: sharded_like(value, own[key]) if key in own else value for key, value in given.items()}
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            of = dict(zip(numbers, parameters, strict=True))
            sharded = {
                number: {
                    key: sharded_like(value, of[number]) if isinstance(value, Tensor) else value
                    for key, value in one.items()
                }
                for number, one in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": sharded})

    def teardown(self) -> None:
        task: Any = self.lightning_module
        # Only without an error do all processes get here together.
        if task is not None and task.trainer.state.status == TrainerStatus.RUNNING:
            task.make_whole()
            self._reset_optimizers_and_schedulers()
        super().teardown()


class Shardable(Protocol):
    """The attributes of a task that are checked."""

    network: nn.Module
    bias: MappingBias | None
    range_learning: RangeLearning | None


def refuse_unfit(trainer: Trainer, task: Shardable) -> None:
    """Raises UserError if the Trainer's strategy can't shard this task, or shards it in another way than fsdp2."""
    refuse_other_sharding(trainer.strategy)
    if not isinstance(trainer.strategy, FullySharded):
        return
    if trainer.world_size == 1:
        raise UserError(
            "trainer.strategy 'fsdp2' shards over processes, but there is one: give more (--trainer.devices 2), or "
            "--trainer.strategy auto."
        )
    if task.bias is not None:
        raise UserError("bias projects whole columns, which fsdp2 shards: use --trainer.strategy ddp.")
    if task.range_learning is not None:
        raise UserError("range_learning does not work with fsdp2, which changes layers: use --trainer.strategy ddp.")
    if any(isinstance(one, WeightAveraging) for one in trainer.callbacks):
        raise UserError("averaged weights (WeightAveraging, EMA) can't be sharded: use --trainer.strategy ddp.")
    refuse_shared_weights(task.network)


def refuse_other_sharding(strategy: str | Strategy | None) -> None:
    """Raises UserError for ways of sharding in which layers do not have their own weights."""
    word = strategy.lower().replace("_", "") if isinstance(strategy, str) else NAME
    named = word.startswith(("fsdp", "modelparallel")) and word != NAME
    other = isinstance(strategy, FSDPStrategy | ModelParallelStrategy) and not isinstance(strategy, FullySharded)
    if named or other:
        what = f"'{strategy}'" if named else type(strategy).__name__
        raise UserError(f"trainer.strategy {what} does not support analog layers: use fsdp2 (PyTorch's FSDP2).")


StrategyRegistry.register(NAME, FullySharded, "FSDP2: sharded training state, files as of one process")
