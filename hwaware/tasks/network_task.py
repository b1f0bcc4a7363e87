"""The network of a task: the methods that a subclass must define, and those that it may."""

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
    """A network, its output for a batch, its loss and its metrics."""

    #: Bytes of a stored label.
    label_bytes: ClassVar[int] = 2

    network: nn.Module
    #: File of the trained weights that the network starts from; a subclass that has one sets it.
    weights: str | None = None
    #: Answers of any network (not only this task's) to the questions of batches; None: not a question-answering task.
    answered: Callable[[nn.Module, Iterable[Any]], Answers] | None = None
    #: From the output of :meth:`predict` and its batch: which samples are hits of the first metric, ``[N]``.
    #: None: that metric does not count hits.
    hits: Callable[[Any, Any], Tensor] | None = None

    # A subclass must define these.

    @abstractmethod
    def build_network(self, weights: str | None = None) -> nn.Module:
        """Builds the digital network with its initial weights, or with those of another file of the same form."""

    @abstractmethod
    def predict(self, network: nn.Module, batch: Any) -> Any:
        """The output of any network (not only this task's) for a batch, without using its labels."""

    @abstractmethod
    def task_loss(self, output: Any, batch: Any) -> Tensor:
        """The task loss, a scalar, from the output of :meth:`predict` and its batch."""

    @abstractmethod
    def make_metrics(self, **options: Any) -> MetricCollection | Metric:
        """New metrics of the output of :meth:`predict` and the labels, the second part of a batch; see :meth:`score`.

        Args:
            options: options of torchmetrics, for each metric.
        """

    # A subclass may define these.

    @property
    def network_name(self) -> str:
        """The network's name in results."""
        return type(self).__name__

    @property
    def is_pretrained(self) -> bool:
        """Whether the network starts from trained weights."""
        return self.weights is not None

    def save_beside(self, folder: Path) -> None:
        """Writes the files that the network's own library needs beside ``model.safetensors`` to load the folder."""

    def update_metrics(self, metrics: Any, output: Any, batch: Any) -> None:
        """Updates metrics of :meth:`make_metrics` with a network's output and its batch."""
        metrics.update(output, batch[1])

    def evaluation_loss(self, output: Any, batch: Any) -> Tensor:
        """The loss that validation and test log: :meth:`task_loss` without terms that only help training."""
        return self.task_loss(output, batch)

    def conclude(self, stage: str, metrics: Any) -> None:
        """Logs the metrics (percent) of ``val`` or ``test`` over all samples of all ranks, and resets them."""
        values = {f"{stage}/{name}": 100.0 * value for name, value in computed(metrics).items()}
        self.log_dict(values, prog_bar=stage == "val", sync_dist=True)  # already equal; avoids Lightning's warning
        metrics.reset()

    def check_inputs(self, network: nn.Module, batches: Iterable[Any], inputs: Any) -> None:
        """Warns if samples seem to be prepared differently from those that a pretrained network was trained on.

        Args:
            network: the exact network, in eval mode.
            batches: batches on its torch device.
            inputs: how the data were prepared; see :mod:`hwaware.data.contract`.
        """

    @torch.no_grad()
    def score(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """Metrics (percent) of any network (not only this task's) over batches on its torch device.

        Here: the metrics of :meth:`make_metrics`, which must be fractions in [0, 1] where higher is better. The first
        one is the metric for decisions. If the task has :attr:`hits`, they are included.
        """
        # Ranks score different chips: nothing to be pooled.
        metrics = self.make_metrics(sync_on_compute=False).to(next(network.parameters()).device)
        hits = []
        for batch in batches:
            output = self.predict(network, batch)
            self.update_metrics(metrics, output, batch)
            if self.hits is not None:
                hits.append(self.hits(output, batch))
        # Single precision has about seven digits; more would be noise in results.
        values = {name: round(100.0 * value.item(), 4) for name, value in computed(metrics).items()}
        return Scores(values, torch.cat(hits).cpu() if hits else None)

    def divergence(self, output: Any, exact: Any) -> Tensor:
        """Divergence of a network's output from the exact network's output: a scalar, mean over samples.

        Here: the Kullback-Leibler divergence (nats) of logits ``[N, C]``, or the mean over several of them.
        """
        return distillation_loss(output, exact, temperature=1.0)

    @property
    def chance_percent(self) -> dict[str, float]:
        """Chance level (percent) of each metric, where it is known; available once samples were scored."""
        return {}

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)
