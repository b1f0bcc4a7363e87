"""Figures of the cells that hold a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.evaluation.evaluate import ages_to_evaluate
from hwaware.evaluation.law import device_labels
from hwaware.hardware.devices import Device
from hwaware.nn import analog_layers
from hwaware.report.device_plots import plot_conductances, plot_transform

#: Cells in a conductance histogram; more would not change the picture.
_HISTOGRAM_CELLS = 200_000


def plot_device(network: nn.Module, device: Device, ages_s: Sequence[float], folder: Path, name: str) -> list[Path]:
    """Plots a device with a converted network in it: conductances at each age on one chip, and the weight curve.

    Args:
        network: on the CPU or another device, converted.
        device: holds it.
        ages_s: ages in s, of which those that tell something are drawn.
        folder: the run's.
        name: tells the device from others in file names.
    """
    chip, of = Chip.program(network, device, CHIP_SEED_START), device_labels(device)
    samples = {age_s: _conductances(chip, age_s) for age_s in ages_to_evaluate(device, ages_s)}
    return [
        plot_conductances(samples, of, folder / "plots" / f"conductances_{name}.png"),
        plot_transform(of, folder / "plots" / f"transform_{name}.png"),
    ]


def _conductances(chip: Chip, age_s: float) -> np.ndarray:
    """Those (µS) of a chip's cells, or of enough of them."""
    cells = torch.cat([g.flatten() for name in analog_layers(chip.model) for g in chip.conductances_at(name, age_s)])
    return cells[:: max(1, len(cells) // _HISTOGRAM_CELLS)].numpy()
