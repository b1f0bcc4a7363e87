"""Validation and test of a task: the exact network, without noise or drift."""

from __future__ import annotations

from typing import Any

from torchmetrics import Metric, MetricCollection

from hwaware.nn import analog_layers
from hwaware.nn.reads import refusing_reads
from hwaware.tasks.in_cells import InCells
from hwaware.training import remove_noise, synchronise_batch_norms
from hwaware.training.sharding import keep_gathered


class Scored(InCells):
    """Scores the network without training noise."""

    #: Metrics from :meth:`make_metrics`.
    validation_metrics: MetricCollection | Metric
    test_metrics: MetricCollection | Metric
    freeze_bn_statistics: bool

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._score_batch(batch, "val", self.validation_metrics)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._score_batch(batch, "test", self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        self.conclude("val", self.validation_metrics)

    def on_test_epoch_end(self) -> None:
        self.conclude("test", self.test_metrics)

    def _score_batch(self, batch: Any, stage: str, metrics: MetricCollection | Metric) -> None:
        with refusing_reads(self.network):
            output = self.predict(self.network, batch)
        self.update_metrics(metrics, output, batch)
        self.log(f"{stage}/loss", self.evaluation_loss(output, batch), batch_size=len(batch[0]), sync_dist=True)

    def on_validation_start(self) -> None:
        keep_gathered(self.network, True)
        self.settle()
        self._calibrate()

    def on_validation_end(self) -> None:
        keep_gathered(self.network, False)

    def on_test_start(self) -> None:
        self.on_validation_start()

    def on_test_end(self) -> None:
        self.on_validation_end()

    def settle(self) -> None:
        """Prepares the network for scoring: no training noise, the same batch-norm statistics on all ranks."""
        remove_noise(self.network)
        for layer in analog_layers(self.network).values():
            layer.weight_error = None  # it holds the graph of the last step
        self._pool_statistics()

    @property
    def _bn_is_frozen(self) -> bool:
        return self.freeze_bn_statistics and self.is_pretrained

    def _pool_statistics(self) -> None:
        if not self._bn_is_frozen:
            synchronise_batch_norms(self.network)
