"""Fits a device to measurements: repeated conductance readings, or a table of states."""

from __future__ import annotations

from pathlib import Path

from hwaware.errors import UserError
from hwaware.hardware.devices.fit import readings, state_table
from hwaware.hardware.devices.fit.estimate import Estimate, Fit, fit_device
from hwaware.hardware.devices.fit.lab_csv import read_csv
from hwaware.hardware.devices.fit.readings import Readings

__all__ = ["Estimate", "Fit", "Readings", "fit_device", "read_measurements"]


def read_measurements(path: str | Path, start: str | None = None) -> Readings:
    """Reads a CSV file with readings of cells, or with a table of states, which is converted to readings.

    Args:
        path: path of the file.
        start: when all cells were written (ISO 8601), if ages are dates and times; see
            :func:`~hwaware.hardware.devices.fit.readings.read_readings`.

    Raises:
        UserError: see :func:`~hwaware.hardware.devices.fit.readings.read_readings` and
            :func:`~hwaware.hardware.devices.fit.state_table.read_state_table`.
    """
    table = read_csv(path, {*readings.QUANTITIES, *state_table.QUANTITIES})
    if not state_table.is_state_table(table):
        return readings.read_readings(table, start)
    if start is not None:
        raise UserError(f"start '{start}' is for readings at dates and times; '{path}' is a table of states.")
    return state_table.read_state_table(table)
