"""Metrics in percent, with the samples that are hits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torchmetrics import Metric, MetricCollection


class Scores(dict[str, float]):
    """Metrics (percent) by name.

    Attributes:
        hits: which samples are hits of the first metric, bool ``[n_samples]``; None: not known.
    """

    def __init__(self, values: Mapping[str, float], hits: Tensor | None = None) -> None:
        super().__init__(values)
        self.hits = hits


def computed(metrics: MetricCollection | Metric) -> dict[str, Tensor]:
    """The metrics' values by name; a single metric has the name of its class."""
    values = metrics.compute()
    return values if isinstance(values, dict) else {type(metrics).__name__: values}
