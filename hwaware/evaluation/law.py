"""Devices and hardware in the form that reports need: labels, and a law in numbers."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import nn

from hwaware.evaluation.evaluate import held_by
from hwaware.hardware import Device, Hardware
from hwaware.nn import main_hardware
from hwaware.report.device_plots import LawCurve
from hwaware.results.setting import DeviceLabels

#: Number of targets of a curve.
_POINTS = 200

_Z_95 = 1.959964


def device_labels(device: Device) -> DeviceLabels:
    """Labels of a device."""
    return DeviceLabels(device.name, json.dumps(device.params(), sort_keys=True), mapping="")


def hardware_labels(hardware: Hardware) -> DeviceLabels:
    """Labels of hardware."""
    params = json.dumps(hardware.params(), sort_keys=True)
    return DeviceLabels(hardware.device.name, params, hardware.encoding.mapping)


def network_labels(network: nn.Module, drawn: bool = False) -> DeviceLabels:
    """Labels of the hardware of a converted network, as in its rows."""
    main = main_hardware(network)
    return DeviceLabels(main.device.name, held_by(network, drawn), main.encoding.mapping)


def law_curve(device: Device, age_s: float) -> LawCurve:
    """Change of cells that are not stuck until an age (s), over the window."""
    targets = torch.linspace(device.g_min_us, device.g_max_us, _POINTS, dtype=torch.float64)
    mean, std = device.cell_moments(targets, age_s)
    half = open_us(device, targets, age_s)
    return LawCurve(age_s, targets.numpy(), (mean - targets).numpy(), std.numpy(), half)


def open_us(device: Device, targets_us: torch.Tensor, age_s: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Half the 95 % intervals of the cells' mean and spread (µS) for each target, from a device's bootstrap constants.

    They are 1.96 standard deviations, like those of the constants; None for a device without a bootstrap.
    """
    if device.bootstrap is None:
        return None
    drawn = [device.bootstrap.device(device, number) for number in range(len(device.bootstrap.values))]
    moments = [torch.stack(one.cell_moments(targets_us, age_s)) for one in drawn]
    mean, std = (_Z_95 * torch.stack(moments).std(0)).numpy()
    return mean, std
