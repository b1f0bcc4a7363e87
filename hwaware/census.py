"""Whether a timm architecture can be put into cells and taken out again: built, converted, aged, converted back."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip
from hwaware.devices import Device
from hwaware.errors import UserError
from hwaware.evaluation import score_drift_free
from hwaware.nn import convert, to_digital

#: Side of the input where an architecture takes any, in pixels; else its own.
SIDE = 96

#: Largest difference of outputs, over the largest output, that counts as the same function.
TOLERANCE = 1e-3

AGE_S = 315_360_000.0


@dataclass(frozen=True)
class Finding:
    """What became of one architecture.

    Attributes:
        name: timm's.
        status: ``ok``; ``refused``: conversion said why; ``large``: more parameters than asked for, so that only the
            conversion was tried, without memory; ``failed``: anything else.
        reason: of whatever is not ``ok``.
        parameters, layers, cells: of the network; layers and cells of what was converted.
        side: of the input in pixels.
        converted_error, returned_error: largest difference of outputs from the original's, over its largest output,
            converted and after the way back.
        aged_change: the same for a chip at ten years.
        seconds: taken.
    """

    name: str
    status: str
    reason: str = ""
    parameters: int = 0
    layers: int = 0
    cells: int = 0
    side: int = 0
    converted_error: float = float("nan")
    returned_error: float = float("nan")
    aged_change: float = float("nan")
    seconds: float = 0.0


def examine(name: str, device: Device, max_parameters: float = float("inf")) -> Finding:
    """Builds an architecture with random weights and tries it.

    Args:
        name: timm's.
        device: the chip's technology.
        max_parameters: a larger network is converted without memory (on torch's meta device) only.
    """
    start, known = time.perf_counter(), {"name": name}
    try:
        with torch.device("meta"):
            known["parameters"] = sum(p.numel() for p in timm.create_model(name).parameters())
        found = (_structure if known["parameters"] > max_parameters else _round_trip)(name, device, known)
    except UserError as error:
        found = Finding(**known, status="refused", reason=" ".join(str(error).split()))
    except Exception as error:  # of other people's architectures anything may come
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        found = Finding(**known, status="failed", reason=reason)
    return replace(found, seconds=round(time.perf_counter() - start, 2))


def _structure(name: str, device: Device, known: dict) -> Finding:
    with torch.device("meta"):
        model = timm.create_model(name)
    report = convert(model, device, corrected=False)
    reason = "too many parameters to be run here: converted without memory"
    return Finding(**known, status="large", reason=reason, layers=len(report.layers), cells=report.n_cells)


@torch.no_grad()
def _round_trip(name: str, device: Device, known: dict) -> Finding:
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    _fill(model)
    images = _images(name, model)
    wanted, state = _output(model, images), copy.deepcopy(model.state_dict())
    report = convert(model, device)
    known |= {"layers": len(report.layers), "cells": report.n_cells, "side": images.shape[-1]}

    def apart(network: nn.Module) -> dict[str, float]:
        return {"error": _apart(_output(network, images), wanted)}

    converted = score_drift_free(model, apart)["error"]
    with Chip.program(model, device, VALIDATION_CHIP_SEED_START).at(AGE_S):
        aged = apart(model)["error"]
    returned = apart(to_digital(model))["error"]
    known |= {"converted_error": converted, "returned_error": returned, "aged_change": aged}
    if list(state) != list(model.state_dict()):
        return Finding(**known, status="failed", reason="other keys after the way back")
    if not max(converted, returned) <= TOLERANCE or not 0 < aged < float("inf"):
        return Finding(**known, status="failed", reason="another function, or a chip that changes nothing")
    return Finding(**known, status="ok")


def _fill(model: nn.Module) -> None:
    """Many heads and residual branches are born zero: then no chip could change anything."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)


def _images(name: str, model: nn.Module) -> Tensor:
    channels, *sides = model.pretrained_cfg["input_size"]
    config = get_pretrained_cfg(name)
    if config is None or not config.fixed_input_size:
        small = torch.randn(1, channels, *(min(SIDE, side) for side in sides))
        try:
            _output(model, small)
            return small
        except Exception:  # it wants its own size after all
            pass
    return torch.randn(1, channels, *sides)


def _output(model: nn.Module, images: Tensor) -> Tensor:
    output = model(images)
    return output[0] if isinstance(output, list | tuple) else output


def _apart(output: Tensor, wanted: Tensor) -> float:
    return float((output - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
