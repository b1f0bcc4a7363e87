"""Figures of the cells of a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.evaluation.law import hardware_labels
from hwaware.hardware import Hardware
from hwaware.nn import main_hardware
from hwaware.report.device_plots import plot_conductances, plot_transform

#: Most cells in a conductance histogram; more would not change it visibly.
_HISTOGRAM_CELLS = 200_000


def plot_device(network: nn.Module, ages_s: Sequence[float], folder: Path, name: str) -> list[Path]:
    """Plots the conductances of a converted network on one chip at each age, and the weight transform.

    Args:
        network: a converted network; the layers on the hardware with most weights are drawn.
        ages_s: ages (s).
        folder: folder of the run.
        name: name of the hardware, for file names.
    """
    chip, hardware = Chip.program(network, CHIP_SEED_START), main_hardware(network)
    samples, of = {age_s: _conductances(chip, hardware, age_s) for age_s in ages_s}, hardware_labels(hardware)
    return [
        plot_conductances(samples, of, folder / "plots" / f"conductances_{name}.png"),
        plot_transform(of, folder / "plots" / f"transform_{name}.png"),
    ]


def _conductances(chip: Chip, hardware: Hardware, age_s: float) -> np.ndarray:
    """Conductances (µS) of a chip's cells on some hardware, or of a sample of them."""
    held = [name for name, target in chip.targets.items() if target.hardware == hardware]
    cells = torch.cat([g.flatten() for name in held for g in chip.conductances_at(name, age_s)])
    return cells[:: max(1, len(cells) // _HISTOGRAM_CELLS)].numpy()
