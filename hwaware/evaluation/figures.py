"""Figures of the cells that hold a network: how far they move by state and age, and the curve that they are read by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.evaluation.law import hardware_labels
from hwaware.nn import main_hardware
from hwaware.report.device_plots import plot_changes, plot_transform

#: Cells in a figure; more would not change the picture.
_CELLS = 200_000


def plot_device(network: nn.Module, ages_s: Sequence[float], folder: Path, name: str) -> list[Path]:
    """Plots hardware with a converted network in it: how a chip's cells change by state and age, and the curve.

    Args:
        network: a converted network; the layers on the hardware with most weights are drawn.
        ages_s: ages (s).
        folder: folder of the run.
        name: name of the hardware, for file names.
    """
    chip, hardware = Chip.program(network, CHIP_SEED_START), main_hardware(network)
    of, held = hardware_labels(hardware), [name for name, one in chip.targets.items() if one.hardware == hardware]
    targets = _some(g for name in held for g in chip.targets_us(name))
    aged = {age_s: _some(g for name in held for g in chip.conductances_at(name, age_s)) for age_s in ages_s}
    return [
        plot_changes(targets, aged, of, folder / "plots" / f"cells_{name}.png"),
        plot_transform(of, folder / "plots" / f"transform_{name}.png"),
    ]


def _some(cells: Iterable[torch.Tensor]) -> np.ndarray:
    """Their conductances (µS), or those of enough of them."""
    every = torch.cat([g.flatten() for g in cells])
    return every[:: max(1, len(every) // _CELLS)].numpy()
