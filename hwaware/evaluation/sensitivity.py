"""Sensitivity of a network to each layer's cells: the damage that planning trades against their number."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware.encoding.scale import normalised
from hwaware.nn import AnalogLayer, installed_weights, owning_layers, weight_owners
from hwaware.results.sensitivity import LayerSensitivity

#: Parallel cells for measuring damage, so that the damages of most layers add up. Fewer for a median, since the effect
#: of stuck cells must be visible.
PARALLEL, PARALLEL_MEDIAN = 16, 3

#: Above this damage (nats), a layer is measured again with four times the cells, repeatedly if necessary.
_LARGE_NATS, _MOST = 0.1, 1024


@dataclass(frozen=True)
class Probe:
    """How damage is measured.

    Attributes:
        predict: a network's output for a batch.
        divergence: divergence of a network's output from the exact one's for the same batch: a scalar, mean over
            samples.
        batches: batches of calibration samples, of about equal size.
    """

    predict: Callable[[nn.Module, Any], Any]
    divergence: Callable[[Any, Any], Tensor]
    batches: Sequence[Any]


def exact_weights(model: nn.Module) -> dict[str, Tensor]:
    """Effective weights of a converted network's layers; tied layers once."""
    return {name: layer.effective_weight() for name, layer in owning_layers(model).items()}


def damage(model: nn.Module, probe: Probe, weights: Mapping[str, Tensor], answers: Sequence[Any]) -> float:
    """Divergence (nats) of a converted network with given weights from the exact network, on the probe's batches.

    Args:
        model: the converted network in eval mode.
        probe: the measurement.
        weights: weights of each layer; tied layers under the name of the first.
        answers: outputs of the exact network.
    """
    owners = weight_owners(model)
    with installed_weights(model, lambda name, layer: weights[owners[name]]):
        found = [probe.divergence(probe.predict(model, batch), exact) for batch, exact in _both(probe, answers)]
    value = torch.stack(found).mean().item()
    if value != value:
        raise UserError("the network's outputs are not finite (NaN) with the weights of the cells.")
    return max(0.0, value)


@torch.no_grad()
def answers_of(model: nn.Module, probe: Probe) -> list[Any]:
    """The outputs of the exact network for the probe's batches."""
    weights, owners = exact_weights(model), weight_owners(model)
    with installed_weights(model, lambda name, layer: weights[owners[name]]):
        return [probe.predict(model, batch) for batch in probe.batches]


@torch.no_grad()
def sensitivity(
    model: nn.Module,
    probe: Probe,
    *,
    age_s: float,
    chip_seeds: Iterable[int],
    on_layer: Callable[[], None] = lambda: None,
) -> list[LayerSensitivity]:
    """Puts one layer at a time into aged cells, with several in parallel, and measures the damage.

    Args:
        model: a converted network in eval mode.
        probe: the measurement.
        age_s: age (s) of the chips.
        chip_seeds: seeds of the chips; neither those for choosing settings nor those of reported results.
        on_layer: called after each layer, for progress.

    Returns:
        The layers, most damage first; tied layers under the name of one.

    Raises:
        UserError: a device's law does not cover the age.
    """
    layers, exact = owning_layers(model), exact_weights(model)
    answers = answers_of(model, probe)
    chips = [Chip.program(model, seed) for seed in chip_seeds]

    def aged(chip: Chip, name: str, parallel: int) -> Tensor:
        target = chip.targets[name]
        targets = chip.targets | {name: replace(target, hardware=target.hardware.with_parallel(parallel))}
        return replace(chip, targets=targets).weight_at(name, age_s)

    def harm(name: str, weight: Tensor) -> float:
        return damage(model, probe, exact | {name: weight}, answers)

    found = []
    for name, layer in layers.items():
        encoding, norm = layer.hardware.encoding, exact[name].norm().item()
        bias, parallel = 0.0, PARALLEL_MEDIAN
        if encoding.combine == "mean":
            bias, parallel = harm(name, _mean_weight(layer, exact[name], age_s)), PARALLEL
        values = [harm(name, aged(chip, name, parallel)) for chip in chips]
        while encoding.combine == "mean" and statistics.fmean(values) - bias > _LARGE_NATS and parallel < _MOST:
            parallel *= 4
            values = [harm(name, aged(chip, name, parallel)) for chip in chips]
        errors = [(aged(chip, name, 1) - exact[name]).norm().item() for chip in chips]
        ratio = noise_ratio(layer, chips[0], name, age_s, parallel)
        noise = [max(0.0, value - bias) / ratio for value in values]
        found.append(
            LayerSensitivity(
                rank=0,
                layer=name,
                weights=layer.weight.numel(),
                cells=layer.hardware.with_parallel(1).n_cells(tuple(layer.rows_shape), layer.groups),
                age_s=age_s,
                parallel=parallel,
                weight_error=statistics.fmean(errors) / norm if norm else float("nan"),
                bias_nats=bias,
                noise_nats=statistics.fmean(noise),
                noise_std=statistics.stdev(noise) if len(noise) > 1 else 0.0,
                share_percent=0.0,
            )
        )
        on_layer()
    total = sum(one.damage_nats for one in found) or 1.0
    ranked = sorted(found, key=lambda one: -one.damage_nats)
    return [
        replace(one, rank=rank, share_percent=100 * one.damage_nats / total) for rank, one in enumerate(ranked, start=1)
    ]


@torch.no_grad()
def noise_ratio(layer: AnalogLayer, chip: Chip, name: str, age_s: float, parallel: int) -> float:
    """Factor by which parallel cells reduce the power of a layer's weight error.

    A mean divides it by their number. For a median it depends on the number of stuck cells, and is measured on a chip.
    """
    if layer.hardware.encoding.combine == "mean":
        return 1 / parallel
    exact, powers = layer.effective_weight(), []
    for cells in (1, parallel):
        target = replace(chip.targets[name], hardware=layer.hardware.with_parallel(cells))
        weight = replace(chip, targets=chip.targets | {name: target}).weight_at(name, age_s)
        powers.append((weight - exact).square().sum().item())
    return powers[1] / powers[0] if powers[0] else 1.0


def _mean_weight(layer: AnalogLayer, exact: Tensor, age_s: float) -> Tensor:
    """The expected weights of a layer when read."""
    scale = layer.weight_scale()
    u = normalised(layer.latent().detach().float(), scale)
    mean = layer.hardware.encoding.mean_error(layer.hardware.device, u, age_s)
    return exact + mean.to(exact) * scale.to(exact)


def _both(probe: Probe, answers: Sequence[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(probe.batches, answers, strict=True)
