"""Where and how networks run, with or without a Trainer: torch device, precision, processes, folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed

from hwaware.evaluation.progress import Steps, progress

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Item = TypeVar("Item")


def _own(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Run:
    """One process of a run; by default the only one, on the CPU, without files.

    Attributes:
        torch_device: torch device of networks.
        precision: function that gives the context for running networks, such as autocast.
        folder: folder of the run; None: no files.
        rank, world_size: rank of this process, and number of processes.
        broadcast: broadcasts an object from the first process; all processes must call it.
        trackers: Weights & Biases runs for logging results.
    """

    torch_device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    folder: Path | None = None
    rank: int = 0
    world_size: int = 1
    broadcast: Callable[[Any], Any] = _own
    trackers: tuple[Any, ...] = ()

    @classmethod
    def of(cls, trainer: Trainer) -> Run:
        """The run of a Trainer whose processes are started; all processes must call this."""
        from lightning.pytorch.loggers import WandbLogger

        folder = trainer.log_dir  # None for loggers without a folder
        return cls(
            torch_device=trainer.strategy.root_device,
            precision=trainer.precision_plugin.forward_context,
            folder=Path(folder) if folder is not None and trainer.loggers and not trainer.fast_dev_run else None,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            broadcast=trainer.strategy.broadcast,
            trackers=tuple(logger.experiment for logger in trainer.loggers if isinstance(logger, WandbLogger)),
        )

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share of the items."""
        return items[self.rank :: self.world_size]

    def gather(self, items: list[Item]) -> list[Item]:
        """The items of all processes, in order of rank, on every process."""
        if self.world_size == 1:
            return items
        parts: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Steps]:
        """Yields a callback for each of ``total`` steps; the first process shows a bar."""
        with progress(what, total, self.is_first) as steps:
            yield steps
