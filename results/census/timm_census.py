"""Whether an architecture can be put into cells and taken out again; timm's classifiers.

Built, converted, aged, written to a file that the plain network loads, and converted back.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip
from hwaware.errors import UserError
from hwaware.evaluation.evaluate import score_drift_free
from hwaware.export.weights import write_weights
from hwaware.hardware import Hardware
from hwaware.nn import convert, effective_state_dict, to_digital

#: Side of the input where an architecture takes any, in pixels; else its own.
SIDE = 96

#: Largest difference of outputs, over the largest output, that counts as the same function.
TOLERANCE = 1e-3

#: Relative change of the inputs by which it is seen how much rounding alone changes the outputs: of a network that is
#: chaotic with random weights more than that tolerance. It then counts up to five per cent.
ROUNDING, MOST_TOLERANCE = 1e-6, 0.05

AGE_S = 315_360_000.0


@dataclass(frozen=True)
class Finding:
    """What became of one architecture.

    Attributes:
        name: its library's.
        status: ``ok``; ``refused``: conversion said why, or the library does not run it either; ``large``: more
            parameters than asked for, so that only the conversion was tried, without memory; ``failed``: anything else.
        reason: of whatever is not ``ok``; else what conversion passed over, where that was looked for.
        parameters, layers, cells: of the network; layers and cells of what was converted.
        side: of the input in pixels, or its length in tokens.
        converted_error, returned_error: largest difference of outputs from the original's, over its largest output,
            converted and after the ways back (in place, and by a file: the larger one).
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


def examine(name: str, hardware: Hardware, max_parameters: float = float("inf")) -> Finding:
    """Builds an architecture with random weights and tries it.

    Args:
        name: timm's.
        hardware: what holds all layers.
        max_parameters: a larger network is converted without memory (on torch's meta device) only.
    """

    def attempt(known: dict[str, Any]) -> Finding:
        with torch.device("meta"):
            known["parameters"] = sum(p.numel() for p in timm.create_model(name).parameters())
        return (_structure if known["parameters"] > max_parameters else _classifier)(name, hardware, known)

    return finding_of(name, attempt)


def finding_of(name: str, attempt: Callable[[dict[str, Any]], Finding]) -> Finding:
    """What ``attempt`` finds, or what it raises and the fields of the finding that it had put into its argument."""
    start, known = time.perf_counter(), {"name": name}
    try:
        found = attempt(known)
    except UserError as error:
        found = Finding(**known, status="refused", reason=" ".join(str(error).split()))
    except Exception as error:  # of other people's architectures anything may come
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        found = Finding(**known, status="failed", reason=reason)
    return replace(found, seconds=round(time.perf_counter() - start, 2))


def _structure(name: str, hardware: Hardware, known: dict[str, Any]) -> Finding:
    with torch.device("meta"):
        model = timm.create_model(name)
    report = convert(model, hardware)
    reason = "too many parameters to be run here: converted without memory"
    return Finding(**known, status="large", reason=reason, layers=len(report.layers), cells=report.n_cells)


def _classifier(name: str, hardware: Hardware, known: dict[str, Any]) -> Finding:
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    images = _images(name, model)
    known["side"] = images.shape[-1]
    fill(model)
    _measure_norms(model, images)
    with torch.no_grad():
        disturbed = _output(model, images * (1 + ROUNDING))
    output = partial(_output, images=images)
    return round_trip(model, output, lambda: timm.create_model(name).eval(), hardware, known, disturbed)


@torch.no_grad()
def round_trip(
    model: nn.Module,
    output: Callable[[nn.Module], Tensor],
    rebuild: Callable[[], nn.Module],
    hardware: Hardware,
    known: dict[str, Any],
    disturbed: Tensor | None = None,
) -> Finding:
    """Into cells, ten years on a chip, into a file that the plain network loads, and back.

    Args:
        model: in eval mode, its weights :func:`filled <fill>`; it is changed.
        output: what a network gives for one and the same input.
        rebuild: another such network, with weights of its own.
        hardware: what holds all layers.
        known: fields of the finding; others are added.
        disturbed: what the network gives for inputs that differ by :data:`ROUNDING`; it widens the tolerance.
    """
    wanted, state = output(model), copy.deepcopy(model.state_dict())
    rounding = 0.0 if disturbed is None else _apart(disturbed, wanted)
    tolerance = min(max(TOLERANCE, rounding), MOST_TOLERANCE)
    report = convert(model, hardware)
    known |= {"layers": len(report.layers), "cells": report.n_cells}

    def apart(network: nn.Module) -> dict[str, float]:
        return {"error": _apart(output(network), wanted)}

    known["converted_error"] = converted = score_drift_free(model, apart)["error"]
    with Chip.program(model, VALIDATION_CHIP_SEED_START).at(AGE_S):
        known["aged_change"] = aged = apart(model)["error"]
    reloaded = rebuild()
    with TemporaryDirectory() as folder:
        file = write_weights(Path(folder) / "model.safetensors", effective_state_dict(model), known["name"], None)
        reloaded.load_state_dict(load_file(file))
    returned = [apart(network)["error"] for network in (reloaded, to_digital(model))]
    known["returned_error"] = max(returned, key=lambda error: (math.isnan(error), error))
    if list(state) != list(model.state_dict()):
        return Finding(**known, status="failed", reason="other keys after the way back")
    if not all(error <= tolerance for error in (converted, *returned)) or not 0 < aged < float("inf"):
        return Finding(**known, status="failed", reason="another function, or a chip that changes nothing")
    return Finding(**known, status="ok")


def fill(model: nn.Module) -> None:
    """Many heads and residual branches are born zero: then no chip could change anything."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)


@torch.no_grad()
def _measure_norms(model: nn.Module, images: Tensor) -> None:
    """Gives batch norms the statistics of random images.

    Those that they are born with do not fit random weights: in some networks activations then grow from layer to layer
    until the last bit of a weight decides what comes out.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # the mean over batches, of which there is one
        norm.train()
    if norms:
        _output(model, torch.cat([images, torch.randn_like(images)]))  # two: of one there may be a single value
    model.eval()


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
