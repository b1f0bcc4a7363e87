"""Readings as a laboratory would take them, from a device whose law is known: ``hwaware device simulate``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import Device, Encoding, Hardware
from hwaware.nn import convert

#: What the simulated instrument reads at least (µS).
FLOOR_US = 1e-3

#: Share of the window that a target may be outside of it, as a rounded number is.
_ROUNDING = 1e-6


def simulate_readings(
    device: Device, cells: int, times_s: Sequence[float], targets_us: Sequence[float], seed: int, repeats: int = 1
) -> str:
    """The CSV of a chip's cells, each with one of the targets in turn and read at every time.

    Args:
        device: whose law.
        cells: how many.
        times_s: ages (s) at which all are read; 0 is just written.
        targets_us: within the device's window (µS).
        seed: which chip.
        repeats: readings of each cell at each time; more than one gives the column ``reading``.

    Raises:
        UserError: an age or a target is not the device's, or there is nothing to read.
    """
    if cells < 1 or repeats < 1:
        raise UserError(f"device simulate: {cells} cells and {repeats} repeats: at least 1 of each.")
    if len(set(times_s)) < len(times_s) or not times_s:
        raise UserError(f"device simulate: times {list(times_s)} must be given, and differ.")
    tolerance = _ROUNDING * (device.g_max_us - device.g_min_us)
    for target in targets_us:
        if not device.g_min_us - tolerance <= target <= device.g_max_us + tolerance:
            raise UserError(
                f"device simulate: target {target:g} µS is outside the window of '{device.name}', "
                f"{device.g_min_us:g} to {device.g_max_us:g} µS."
            )
    for time_s in times_s:
        device.check_law(time_s)
    targets_us = [min(max(target, device.g_min_us), device.g_max_us) for target in targets_us]
    # One cell per weight, whose window position is the weight; a last one of weight 1 sets the layer's scale.
    hardware = Hardware(device=device, encoding=Encoding(mapping="offset", kappa=None))
    targets = torch.tensor(list(targets_us), dtype=torch.float64)[torch.arange(cells) % len(targets_us)]
    layer = nn.Sequential(nn.Linear(cells + 1, 1, bias=False))
    half = (device.g_max_us - device.g_min_us) / 2
    layer[0].weight.data = torch.cat([(targets - device.middle_us) / half, torch.ones(1)]).float()[None]
    convert(layer, hardware)
    chip = Chip.program(layer, seed)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["cell", "target_us", "time_s", *["reading"] * (repeats > 1), "conductance_us"])
    for time_s in times_s:
        for reading in range(repeats):
            (conductance,) = chip.conductances_at("0", time_s, purpose=f"reading {reading}")
            read = conductance.flatten()[:cells].clamp_min(FLOOR_US).tolist()
            for cell, (target, value) in enumerate(zip(targets.tolist(), read, strict=True)):
                number = [reading] * (repeats > 1)
                table.writerow([cell, f"{target:.7g}", f"{time_s:.7g}", *number, f"{value:.7g}"])
    return out.getvalue()
