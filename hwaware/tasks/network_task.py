"""What a task says of its network: the methods that a subclass has to write, and those that it may."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from hwaware.data.contract import TakesSamples
from hwaware.tasks.scores import Scores, computed
from hwaware.training import distillation_loss

if TYPE_CHECKING:
    from hwaware.metrics import Answers


class NetworkTask(LightningModule, TakesSamples, ABC):
    """A network, what it answers to a batch, what is minimised and what is measured."""

    #: Bytes of a stored sample's label.
    label_bytes: ClassVar[int] = 2

    network: nn.Module
    #: File of the trained weights that the network starts from; a subclass that has one sets it.
    weights: str | None = None
    #: What any network (not only this task's) answers to the questions of batches; None: the task asks none.
    answered: Callable[[nn.Module, Iterable[Any]], Answers] | None = None
    #: From what :meth:`predict` gave for a batch, and the batch: which samples are hits of the first metric, ``[N]``.
    #: None: that metric does not count hits.
    hits: Callable[[Any, Any], Tensor] | None = None

    # What a subclass says.

    @abstractmethod
    def build_network(self, weights: str | None = None) -> nn.Module:
        """The digital network with the weights that it starts from, or with those of a file in the same form."""

    @abstractmethod
    def predict(self, network: nn.Module, batch: Any) -> Any:
        """The output of any network (not only this task's) for a batch, whose labels are not looked at."""

    @abstractmethod
    def task_loss(self, output: Any, batch: Any) -> Tensor:
        """The task's loss, a scalar, of what :meth:`predict` gave for a batch."""

    @abstractmethod
    def make_metrics(self, **options: Any) -> MetricCollection | Metric:
        """New metrics of what :meth:`predict` gives and of the batch's second part, the labels; see :meth:`score`.

        Args:
            options: of torchmetrics, for each metric.
        """

    # What a subclass may say as well.

    @property
    def network_name(self) -> str:
        """The network's name in results."""
        return type(self).__name__

    @property
    def is_pretrained(self) -> bool:
        """Whether the network starts from trained weights."""
        return self.weights is not None

    def save_beside(self, folder: Path) -> None:
        """Writes what a folder needs beside ``model.safetensors`` for the network's own library to load it."""

    def update_metrics(self, metrics: Any, output: Any, batch: Any) -> None:
        """Shows metrics of :meth:`make_metrics` a batch and what a network gave for it."""
        metrics.update(output, batch[1])

    def judged_loss(self, output: Any, batch: Any) -> Tensor:
        """The loss that validation and test log: as :meth:`task_loss`, without what only eases training."""
        return self.task_loss(output, batch)

    def conclude(self, stage: str, metrics: Any) -> None:
        """Logs what the metrics of ``val`` or ``test`` found in all samples of all ranks, percent, and empties them."""
        values = {f"{stage}/{name}": 100.0 * value for name, value in computed(metrics).items()}
        self.log_dict(values, prog_bar=stage == "val", sync_dist=True)  # equal already: it spares Lightning's warning
        metrics.reset()

    def judge_inputs(self, network: nn.Module, batches: Iterable[Any], inputs: Any) -> None:
        """Warns where a pretrained network seems to be shown samples otherwise than it was trained on them.

        Args:
            network: exact, in eval mode.
            batches: that lie on its device.
            inputs: that the data prepared them by; see :mod:`hwaware.data.contract`.
        """

    @torch.no_grad()
    def score(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """Metrics in percent of any network (not only this task's) over batches that lie on its device.

        Here: those of :meth:`make_metrics`, as shares in [0, 1] of which more is better. The first is judged by. Where
        the task has :attr:`hits`, they come along.
        """
        # Ranks score different chips: nothing to be pooled.
        metrics = self.make_metrics(sync_on_compute=False).to(next(network.parameters()).device)
        hits = []
        for batch in batches:
            output = self.predict(network, batch)
            self.update_metrics(metrics, output, batch)
            if self.hits is not None:
                hits.append(self.hits(output, batch))
        # In single precision they have some seven digits; the rest would be noise in results.
        values = {name: round(100.0 * value.item(), 4) for name, value in computed(metrics).items()}
        return Scores(values, torch.cat(hits).cpu() if hits else None)

    def divergence(self, output: Any, exact: Any) -> Tensor:
        """How far a network's output for a batch lies from the exact network's: a scalar, mean over samples.

        Here: the Kullback-Leibler divergence (nats) of logits ``[N, C]``, or the mean of several such.
        """
        return distillation_loss(output, exact, temperature=1.0)

    @property
    def chance_percent(self) -> dict[str, float]:
        """Value of each metric that a network without any knowledge has, where it is known; once samples are scored."""
        return {}

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)
