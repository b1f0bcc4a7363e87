"""A custom task: three yes-or-no questions about a handwritten digit (multi-label classification).

A digital network is trained, then finetuned for memory cells and aged on chips. From this folder::

    hwaware fit --config digits.yaml --model own_task.DigitQuestions --recipe digital
    hwaware fit --config digits.yaml --model own_task.DigitQuestions --recipe in_cells \
        --model.weights runs/digital/version_0/model.safetensors \
        --model.hardware.device.name reram_cmo --model.noise.kind device --evaluation.n_chips 2
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MultilabelAccuracy, MultilabelExactMatch

from hwaware.data import ImageInputs
from hwaware.models import load_weights
from hwaware.tasks import HardwareAwareTask

#: Of each digit: whether it is even, above four, and has a loop.
ANSWERS = torch.tensor([[digit % 2 == 0, digit > 4, digit in (0, 6, 8, 9)] for digit in range(10)])


class DigitQuestions(HardwareAwareTask):
    """Answers all questions at once; a batch is ``(images [N, 1, 8, 8], digits [N])``.

    Args:
        width: of the hidden layer.
        weights: file of trained weights to start from, such as a run's ``model.safetensors``.
        **options: the hardware, the noise, the optimiser, …: see :class:`~hwaware.tasks.HardwareAwareTask`.
    """

    #: How ImageData is to prepare images for the network.
    inputs = ImageInputs({"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,), "crop_pct": 1.0})

    def __init__(self, width: int = 64, weights: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.width, self.weights = width, weights

    def build_network(self, weights: str | None = None) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, self.width), nn.ReLU(), nn.Linear(self.width, 3))
        if file := weights or self.weights:
            load_weights(network, file)
        return network

    def predict(self, network: nn.Module, batch: Any) -> Tensor:
        return network(batch[0])

    def task_loss(self, output: Tensor, batch: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(output, self._answers(batch).to(output.dtype))

    def make_metrics(self, **options: Any) -> MetricCollection:
        metrics = {"all_right": MultilabelExactMatch(3, **options), "right": MultilabelAccuracy(3, **options)}
        return MetricCollection(metrics)

    def update_metrics(self, metrics: MetricCollection, output: Tensor, batch: Any) -> None:
        metrics.update(output, self._answers(batch).int())

    def _answers(self, batch: Any) -> Tensor:
        return ANSWERS.to(batch[1].device)[batch[1]]
