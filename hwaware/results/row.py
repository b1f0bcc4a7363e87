"""One measurement, and the labels that identify its run, repair and network."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

#: Prefix of the metric for the accuracy of one class; the name of the class follows.
OF_CLASS = "class:"


@dataclass(frozen=True)
class RunLabels:
    """Labels that identify a run in its rows.

    Attributes:
        recipe, model, dataset: names.
        network: ``base``, ``base_uncorrected``, ``finetuned`` or the name of an ablation.
        seed: the training seed.
        method, method_params: the repair of the chip, and its settings.

    Examples:
        >>> RunLabels(recipe="mine", model="resnet18", network="base", dataset="digits", seed=0).network
        'base'
    """

    recipe: str
    model: str
    network: str
    dataset: str
    seed: int
    method: str = "none"
    method_params: str = "{}"


@dataclass(frozen=True)
class RepairLabels:
    """Labels that identify a repair: one method for one network on one device, in one comparison.

    A comparison with another ``n_samples`` may have other ages, and so another number of states to store.
    """

    model: str
    network: str
    n_samples: int
    mapping: str
    device: str
    device_params: str
    method: str
    method_params: str

    @staticmethod
    def of(item: Any) -> RepairLabels:
        """The labels of a row or a cost line."""
        return RepairLabels(*_REPAIR(item))


_REPAIR = attrgetter(*RepairLabels.__dataclass_fields__)


@dataclass(frozen=True)
class Row:
    """One measurement: one metric of one network on one chip at one age. Values in percent, age in seconds."""

    recipe: str
    model: str
    network: str
    dataset: str
    device: str
    device_params: str
    mapping: str
    method: str
    method_params: str
    age_s: float
    chip_seed: int
    metric: str
    value: float
    drift_free: float
    base_digital: float
    n_samples: int
    seed: int
    commit: str
    version: str
