"""Data for fitting repairs: the run's own data, loss and precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from hwaware.compensation import FitData
from hwaware.data import Samples
from hwaware.errors import UserError
from hwaware.evaluation.run import Run
from hwaware.metrics import Answers
from hwaware.tasks import HardwareAwareTask

#: Most validation samples for the decisions of schedules and plans.
ACCURACY_SAMPLES = 1000


def samples_to_fit(datamodule: LightningDataModule) -> Samples:
    """The data as samples for fitting repairs.

    Raises:
        UserError: the data module provides no such samples.
    """
    if not isinstance(datamodule, Samples):
        raise UserError(
            f"{type(datamodule).__name__} has no samples to fit repairs on: derive it from hwaware.data.SampleData."
        )
    return datamodule


def fit_data(
    run: Run, task: HardwareAwareTask, datamodule: LightningDataModule, accuracy_samples: int = ACCURACY_SAMPLES
) -> FitData:
    """Training and validation samples on the run's torch device; the same on every rank.

    Args:
        run, task, datamodule: the run, its task and its data.
        accuracy_samples: most validation samples for measuring accuracy.

    Raises:
        UserError: see :func:`samples_to_fit`.
    """
    samples, device = samples_to_fit(datamodule), run.torch_device
    samples.setup("fit")

    def there(batch: Any) -> list[Tensor]:
        return [part.to(device, non_blocking=True) for part in batch]

    @cache
    def teacher() -> Callable[[Any], Any] | None:
        return task.teacher(device)

    def loss(network: nn.Module, batch: Any) -> Tensor:
        with run.precision():
            return task.loss_of(network, batch, teacher())

    def predict(network: nn.Module, batch: Any) -> Any:
        with run.precision():
            return task.predict(network, batch)

    @cache
    def calibration(n: int) -> list[Tensor]:
        return there(samples.calibration_batch(n))

    @cache
    def validation(n: int) -> list[Any]:
        return list(map(there, samples.validation_batches(min(n, samples.n_val))))

    def accuracy(network: nn.Module) -> float:
        with run.precision():
            return next(iter(task.score(network, validation(accuracy_samples)).values()))

    def answering(ask: Callable[[nn.Module, Iterable[Any]], Answers]) -> Callable[[nn.Module, int], Answers]:
        def answered(network: nn.Module, n: int) -> Answers:
            with run.precision():
                return ask(network, validation(n))

        return answered

    return FitData(
        training=lambda seed: map(there, samples.fitting_batches(seed)),
        calibration=calibration,
        loss=loss,
        predict=predict,
        accuracy=accuracy,
        distillation=0.0 if task.distillation is None else task.distillation.weight,
        temperature=None if task.distillation is None else task.distillation.temperature,
        label_bytes=task.label_bytes,
        divergence=task.divergence,
        answered=None if task.answered is None else answering(task.answered),
    )
