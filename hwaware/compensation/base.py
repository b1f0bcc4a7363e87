"""The interface of all compensation methods: fit, install, cost. Each method is one file in ``methods/``."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from hwaware.chip import Chip, drift_free, mean_aged
from hwaware.compensation.costs import LABEL_BYTES, Cost, NetworkSize
from hwaware.errors import UserError, nearest
from hwaware.nn.batches import split_batch

if TYPE_CHECKING:
    from hwaware.metrics import Answers

#: What a chip is calibrated towards: the network on exact hardware, or with the mean weights of all chips at this age;
#: or whichever of the two is better.
AUTO, DRIFT_FREE, MEAN_AGED = TARGETS = ("auto", "drift_free", "mean_aged")

State = dict[str, Tensor]
"""The stored tensors of a method for one drift level or one chip, keyed ``layer/quantity``, as they are stored."""


@dataclass(frozen=True)
class FitData:
    """The data that methods may be fitted on; never an image or chip that results are reported on.

    Attributes:
        training: function from a seed to endless training batches.
        calibration: function from a number to that many stored samples, as one batch; the same for every method.
        loss: loss of a network on a batch, a scalar.
        predict: a network's output for a batch, without using its labels.
        accuracy: accuracy (percent) of a network on validation samples.
        divergence: divergence of a network's output from the exact network's on a batch: a scalar in nats, mean over
            samples.
        distillation: weight of the digital network's outputs (instead of labels) in ``loss``, in [0, 1].
        temperature: temperature of the distillation; None: no distillation.
        label_bytes: bytes of a stored label.
        answered: a network's answers to at most this many validation questions; None: not a question-answering task.
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
        """The ``n`` stored samples, in batches of about equal size, at most ``size``."""
        return split_batch(self.calibration(n), size)


class Compensation(ABC):
    """Base class of compensation methods. Subclasses are frozen dataclasses of settings."""

    name: ClassVar[str]

    #: Whether it is fitted with the task loss, so that distillation is one of its settings.
    by_loss: ClassVar[bool] = False

    @property
    def params(self) -> str:
        """The settings as a JSON object, which distinguishes fits of the same method in ``method_params``."""
        settings = asdict(self)  # type: ignore[call-overload]
        if settings.get("targets") == AUTO:  # left out, as in results from before it was a setting
            del settings["targets"]
        return json.dumps(settings, sort_keys=True)

    @property
    def samples_kept(self) -> int:
        """Number of stored samples or questions that the method is fitted on; 0: none."""
        return getattr(self, "images", 0) or getattr(self, "questions", 0)

    def check(self, model: nn.Module) -> None:  # noqa: B027 - most methods apply to every network
        """Raises UserError if the method does not apply to a network, with the layer, the reason and an alternative."""

    @abstractmethod
    def installed(self, model: nn.Module, state: State) -> AbstractContextManager[None]:
        """Within the context the network runs repaired. Its cells are unchanged; on exit the network is restored."""

    @abstractmethod
    def cost(self, size: NetworkSize, levels: int) -> Cost:
        """Counts what the repair costs in storage, operations and calibration.

        Args:
            size: size of the network.
            levels: number of drift levels with their own state; 1 for a method that is fitted in the field.
        """


def check_settings(method: Compensation, **least: int) -> None:
    """Raises UserError for integers below their minimum, an invalid learning rate, and ``bits`` out of range."""
    for field, low in least.items():
        if getattr(method, field) < low:
            raise UserError(f"{method.name}: {field}={getattr(method, field)} must be at least {low}.")
    lr, bits = getattr(method, "lr", 1.0), getattr(method, "bits", None)
    if not 0 < lr < math.inf:
        raise UserError(f"{method.name}: lr={lr} must be a learning rate above 0.")
    if bits is not None and not 2 <= bits <= 16:
        raise UserError(f"{method.name}: bits={bits} must lie in [2, 16].")
    if (targets := getattr(method, "targets", AUTO)) not in TARGETS:
        raise UserError(f"{method.name}: targets '{targets}' is unknown. {nearest(targets, TARGETS)}")


class OfflineCompensation(Compensation):
    """Base class of methods that are fitted once, offline, against the device model: all chips of an age share a state.

    Attributes:
        bits: bits of a stored value; None: half precision.
    """

    bits: int | None = None

    def shared(self, model: nn.Module) -> State:
        """The tensors that all drift levels share, besides the network."""
        return {}

    @abstractmethod
    def fit(self, model: nn.Module, ages_s: tuple[float, float], data: FitData, seed: int, start: State) -> State:
        """Fits the state of one drift level.

        Args:
            model: a converted network in eval mode; its parameters are not changed.
            ages_s: youngest and oldest age (s) of the level.
            data: the data to fit on.
            seed: seed of batches, ages and chips. The chips are never those that results are reported on.
            start: the state of the previous level, as a starting point; empty for the first level.
        """


class InFieldCompensation(Compensation):
    """Base class of methods that are fitted on each chip, at the age of use, with the stored samples.

    Attributes:
        targets: what the chip is calibrated towards: ``drift_free``, the network on exact hardware; ``mean_aged``, the
            network with the mean weights of all chips at this age, which may be the better one after a training with
            the device's noise; or ``auto``, the one with the lower loss on training batches, which
            :class:`~hwaware.compensation.Repair` chooses. A field of the methods that compare the chip with such a
            network.
    """

    targets: str = DRIFT_FREE

    def wanted(self, model: nn.Module, age_s: float) -> AbstractContextManager[nn.Module]:
        """Context in which a network computes what a chip of this age (s) is calibrated towards."""
        return mean_aged(model, age_s) if self.targets == MEAN_AGED else drift_free(model)

    @abstractmethod
    def fit(self, chip: Chip, age_s: float, data: FitData) -> State:
        """Fits the state of one chip at one age, from measurements on that chip.

        Args:
            chip: the chip, with its network in eval mode.
            age_s: age (s) of the chip at calibration.
            data: the data to fit on. Only stored samples may be used, with ``predict`` or ``loss``, since there is no
                training set in the field.
        """

    def counted(self, cost: Cost, state: State) -> Cost:
        """Adds the part of the calibration cost that depends on the chip, from the fitted state."""
        return cost
