"""Devices and hardware by themselves as reports take them: their labels, and a law in numbers."""

from __future__ import annotations

import json

import torch
from torch import nn

from hwaware.evaluation.evaluate import held_by
from hwaware.hardware import Device, Hardware
from hwaware.nn import main_hardware
from hwaware.report.device_plots import LawCurve
from hwaware.results.setting import DeviceLabels

#: Targets of a curve.
_POINTS = 200


def device_labels(device: Device) -> DeviceLabels:
    """A device by itself, as results name it."""
    return DeviceLabels(device.name, json.dumps(device.params(), sort_keys=True), mapping="")


def hardware_labels(hardware: Hardware) -> DeviceLabels:
    """Hardware by itself, as results name it."""
    params = json.dumps(hardware.params(), sort_keys=True)
    return DeviceLabels(hardware.device.name, params, hardware.encoding.mapping)


def network_labels(network: nn.Module) -> DeviceLabels:
    """What holds a converted network, as its rows name it."""
    main = main_hardware(network)
    return DeviceLabels(main.device.name, held_by(network), main.encoding.mapping)


def law_curve(device: Device, age_s: float) -> LawCurve:
    """How working cells change until an age (s), over the window."""
    targets = torch.linspace(device.g_min_us, device.g_max_us, _POINTS, dtype=torch.float64)
    mean, std = device.cell_moments(targets, age_s)
    return LawCurve(age_s, targets.numpy(), (mean - targets).numpy(), std.numpy())
