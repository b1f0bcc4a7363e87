"""Simulated laboratory readings of a device whose law is known: ``hwaware device simulate``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import Device, Encoding, Hardware
from hwaware.nn import convert

#: Smallest reading (µS) of the simulated instrument.
FLOOR_US = 1e-3

#: Tolerance (fraction of the window) for targets outside the window, for rounded numbers.
_ROUNDING = 1e-6
#: Lines of a file, at most: half a gigabyte.
MAX_READINGS = 10_000_000


def simulate_readings(
    device: Device,
    cells: int,
    times_s: Sequence[float],
    targets_us: Sequence[float],
    seed: int,
    repeats: int = 1,
    dies: int = 1,
) -> str:
    """A CSV of readings: cells take the targets in turn, and are read at every age.

    Args:
        device: the device.
        cells: number of cells, distributed over the dies.
        times_s: ages (s) at which all cells are read; 0 is just written.
        targets_us: targets (µS) within the device's window.
        seed: seed of the chip that is the first die; further dies have the next seeds.
        repeats: readings of each cell at each age; more than one adds the column ``reading``.
        dies: number of dies; more than one adds the column ``die``.

    Raises:
        UserError: the device does not cover an age or a target, or there is nothing to read.
    """
    if cells < 1 or repeats < 1:
        raise UserError(f"device simulate: {cells} cells and {repeats} repeats: at least 1 of each.")
    if not 1 <= dies <= cells:
        raise UserError(f"device simulate: {dies} dies must be at least 1, and at most the {cells} cells.")
    if (lines := cells * repeats * len(times_s)) > MAX_READINGS:
        raise UserError(
            f"device simulate: {lines:,} readings are too many: at most {MAX_READINGS:,} readings are written."
        )
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
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    several = ["die"] * (dies > 1), ["reading"] * (repeats > 1)
    table.writerow([*several[0], "cell", "target_us", "time_s", *several[1], "conductance_us"])
    step = device.die_spread.chips_per_die if device.die_spread is not None else 1
    for die in range(dies):
        of_die = torch.tensor(list(targets_us), dtype=torch.float64)[
            torch.arange(cells // dies + (die < cells % dies)) % len(targets_us)
        ]
        chip = _written(device, of_die, seed + die * step)
        for time_s in times_s:
            for reading in range(repeats):
                (conductance,) = chip.conductances_at("0", time_s, purpose=f"reading {reading}")
                read = conductance.flatten()[: len(of_die)].clamp_min(FLOOR_US).tolist()
                for cell, (target, value) in enumerate(zip(of_die.tolist(), read, strict=True)):
                    where, number = [die] * (dies > 1), [reading] * (repeats > 1)
                    table.writerow([*where, cell, f"{target:.7g}", f"{time_s:.7g}", *number, f"{value:.7g}"])
    return out.getvalue()


def _written(device: Device, targets_us: Tensor, seed: int) -> Chip:
    """A chip whose layer '0' has one cell for each target (µS), and one more."""
    # One cell per weight, whose window position is the weight; a last one of weight 1 sets the layer's scale.
    hardware = Hardware(device=device, encoding=Encoding(mapping="offset", kappa=None))
    layer = nn.Sequential(nn.Linear(len(targets_us) + 1, 1, bias=False))
    half = (device.g_max_us - device.g_min_us) / 2
    layer[0].weight.data = torch.cat([(targets_us - device.middle_us) / half, torch.ones(1)]).float()[None]
    convert(layer, hardware)
    return Chip.program(layer, seed)
