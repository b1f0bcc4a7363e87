"""Ranking of the states of a cell by their immunity to variation, measured by the error current."""

from __future__ import annotations

from typing import NamedTuple

import torch

from hwaware.hardware.devices.device import Device
from hwaware.hardware.encoding.formats import Codes


class StateError(NamedTuple):
    """One state of a cell that holds a digit.

    Attributes:
        state: the digit.
        conductance_us: its target (µS).
        error_us: root mean square error of the conductance (µS), i.e. the error current over the voltage.
    """

    state: int
    conductance_us: float
    error_us: float


def states_by_error_current(device: Device, codes: Codes, age_s: float = 0.0) -> tuple[StateError, ...]:
    """The states of cells that hold digits of codes, the most favourable first.

    States are ranked by the error *current*, as in S. Diware et al., AICAS 2023 (10.1109/AICAS57966.2023.10168661): a
    state with a larger relative variation but a lower conductance may do less harm. Ties are ranked by conductance.

    Args:
        device: the memory technology.
        codes: the number format.
        age_s: age (s) at which cells are read; at 0 there is only the programming error.

    Raises:
        UserError: the device's law does not cover the age.
    """
    targets = torch.linspace(device.g_min_us, device.g_max_us, codes.n_states, dtype=torch.float64)
    mean, std = device.cell_moments(targets, age_s)
    errors = ((mean - targets).square() + std.square()).sqrt()
    states = (StateError(k, *both) for k, both in enumerate(zip(targets.tolist(), errors.tolist(), strict=True)))
    return tuple(sorted(states, key=lambda one: one.error_us))
