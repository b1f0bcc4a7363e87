"""What all ways of repairing a drifted chip have in common: fit, install, cost. A method is one file beside this."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.compensation.costs import LABEL_BYTES, Cost, NetworkSize
from hwaware.errors import UserError
from hwaware.nn.batches import split_batch

if TYPE_CHECKING:
    from hwaware.metrics import Answers

State = dict[str, Tensor]
"""What a method has to keep for one drift level, or for one chip: tensors by ``layer/what``, as they are stored."""


@dataclass(frozen=True)
class FitData:
    """What methods may learn from; never a reported image or chip.

    Attributes:
        training: endless training batches for a seed.
        calibration: this many stored samples, the same ones for every method, as one batch.
        loss: of a network on a batch, a scalar.
        predict: a network's output for a batch, without its labels.
        accuracy: of a network in percent, on samples to choose by.
        divergence: of a network's output for a batch from the exact network's: a scalar in nats, mean over samples.
        distillation: the share of ``loss`` that comes from the digital network's outputs, instead of labels.
        temperature: at which these are distilled; None: no part of ``loss`` is.
        label_bytes: of a stored sample's label.
        answered: what a network answers to at most this many validation questions; None: the task asks none.
    """

    training: Callable[[int], Iterator[Any]]
    calibration: Callable[[int], Any]
    loss: Callable[[nn.Module, Any], Tensor]
    predict: Callable[[nn.Module, Any], Any]
    accuracy: Callable[[nn.Module], float]
    divergence: Callable[[Any, Any], Tensor]
    distillation: float = 0.0
    temperature: float | None = None
    label_bytes: int = LABEL_BYTES
    answered: Callable[[nn.Module, int], Answers] | None = None

    def calibration_batches(self, n: int, size: int) -> Iterator[Any]:
        """The stored samples in parts of about equal length, at most ``size``."""
        return split_batch(self.calibration(n), size)


class Compensation(ABC):
    """A way of repairing an aged chip without rewriting its cells. Subclasses are frozen dataclasses of settings."""

    name: ClassVar[str]

    #: Whether it is fitted by the task's loss, so that distillation is one of its settings.
    by_loss: ClassVar[bool] = False

    @property
    def params(self) -> str:
        """The settings that tell this from another fit of the same method, as a JSON object for ``method_params``."""
        return json.dumps(asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @property
    def samples_kept(self) -> int:
        """Stored samples, or questions, that it learns from; 0: none."""
        return getattr(self, "images", 0) or getattr(self, "questions", 0)

    def check(self, model: nn.Module) -> None:  # noqa: B027 - most methods apply to every network
        """Raises UserError where the method does not apply to a network: which layer, why, and what does."""

    @abstractmethod
    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        """Within the context the network runs repaired; its cells are not touched, and it is restored on leaving."""

    @abstractmethod
    def cost(self, size: NetworkSize, levels: int) -> Cost:
        """What keeping and applying the repair costs.

        Args:
            size: of the network.
            levels: drift levels that have a state each; 1 for a method that is fitted in the field.
        """


def check_settings(method: Compensation, **least: int) -> None:
    """Raises UserError for whole numbers below their least, a learning rate that is none, and unusable ``bits``."""
    for field, low in least.items():
        if getattr(method, field) < low:
            raise UserError(f"{method.name}: {field}={getattr(method, field)} must be at least {low}.")
    lr, bits = getattr(method, "lr", 1.0), getattr(method, "bits", None)
    if not 0 < lr < math.inf:
        raise UserError(f"{method.name}: lr={lr} must be a learning rate above 0.")
    if bits is not None and not 2 <= bits <= 16:
        raise UserError(f"{method.name}: bits={bits} must lie in [2, 16].")


class OfflineCompensation(Compensation):
    """Fitted once against the device model, before chips are sold: all chips of an age share a state.

    Attributes:
        bits: stored bits of a value; None: half precision.
    """

    bits: int | None = None

    def shared(self, model: nn.Module) -> State:
        """What all drift levels share, beside the network."""
        return {}

    @abstractmethod
    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        """A state for one drift level.

        Args:
            model: a converted network in eval mode, whose parameters are left alone.
            ages_s: youngest and oldest age (s) of the level.
            data: what to learn from.
            seed: of batches, ages and chips; these are fresh ones, never those that results are reported on.
            start: the state of the level before, to start from; empty for the first.
        """


class InFieldCompensation(Compensation):
    """Fitted for each chip by itself, at the age at which it is then used; judged by the samples that it keeps."""

    @abstractmethod
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        """A state for one chip at one age (s), from what can be measured on that chip.

        Args:
            chip: holds the network, in eval mode.
            age_s: the age at which the chip is calibrated.
            data: of which only stored samples are used, with ``predict`` or ``loss``: there is no training set in the
                field.
        """

    def counted(self, cost: Cost, state: State) -> Cost:
        """A calibration's cost where that depends on the chip, from the state that it gave."""
        return cost
