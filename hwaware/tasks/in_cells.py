"""A task whose network is held by memory cells: hardware of each layer, conversion, ranges of converters."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch import nn

from hwaware.data.contract import samples_of
from hwaware.hardware import HardwareOptions, Placement
from hwaware.nn import ConversionReport, calibrate, convert, layers_with_converters
from hwaware.nn.batches import split_batch
from hwaware.tasks.network_task import NetworkTask

#: Batch size for measuring the ranges of converters.
_CALIBRATION_BATCH = 64


class InCells(NetworkTask):
    """A network and its hardware; without hardware it is digital."""

    hardware: HardwareOptions | None
    corrected: bool

    @property
    def placement(self) -> Placement | None:
        """The hardware of each layer; None: the network is digital."""
        return None if self.hardware is None else self.hardware.placement

    def convert(self, network: nn.Module, placement: Placement, corrected: bool = True) -> ConversionReport:
        """Converts a digital network of this task."""
        return convert(network, placement, corrected)

    def calibrate(self, network: nn.Module, datamodule: LightningDataModule | None) -> None:
        """Measures, on validation samples, the missing quantities that belong to a network beside its weights.

        Here: the ranges of a converted network's converters.
        """
        found = layers_with_converters(network).values()
        if all(layer.ranges for layer, _ in found):
            return
        samples = samples_of(datamodule, "the ranges of converters are measured on calibration samples")
        samples.setup("fit")
        wanted = max(converters.samples for _, converters in found)
        device = next(network.parameters()).device
        batch = samples.calibration_batch(min(wanted, samples.n_val))
        batches = ([part.to(device) for part in one] for one in split_batch(batch, _CALIBRATION_BATCH))
        calibrate(network, self.predict, batches)

    def _calibrate(self) -> None:
        if layers_with_converters(self.network):
            self.calibrate(self.network, self.trainer.datamodule)

    @property
    def hardware_plain(self) -> dict[str, Any] | None:
        """The hardware of the network as plain types, for file headers; None for a digital network."""
        return None if self.placement is None else {**self.placement.plain(), "corrected": self.corrected}
