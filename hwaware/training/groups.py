"""Trainable parameters and their learning rates, by patterns on their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from hwaware.errors import UserError
from hwaware.hardware.placement import matches


def check_rates(lr_scale: Mapping[str, float] | None, layer_decay: float | None) -> None:
    """Raises UserError for invalid factors on learning rates."""
    for pattern, factor in (lr_scale or {}).items():
        if not (factor > 0 and math.isfinite(factor)):
            raise UserError(f"lr_scale '{pattern}': {factor} must be above 0; use model.freeze to freeze a layer.")
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise UserError(f"layer_decay={layer_decay} must lie in (0, 1]; 0.8 … 0.95 is usual, null turns it off.")


def freeze(network: nn.Module, patterns: Sequence[str], alone: bool = True) -> None:
    """Freezes parameters.

    Args:
        network: the network; changed in place.
        patterns: shell patterns on names of parameters or modules; a pattern that matches a module covers everything
            inside it.
        alone: whether nothing but the network is trained.

    Raises:
        UserError: a pattern matches nothing, or nothing is left to train.
    """
    parameters = dict(network.named_parameters(remove_duplicate=False))  # both names of a tied parameter
    for pattern in patterns:
        for name in matches(pattern, parameters, "model.freeze"):
            parameters[name].requires_grad_(False)
    if alone and not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError(f"model.freeze: {', '.join(patterns)} leaves nothing to train; remove a pattern.")


def scaled_rates(network: nn.Module, lr_scale: Mapping[str, float]) -> dict[str, float]:
    """Factors on the learning rates of parameters, by name; only for parameters that a pattern matches.

    Args:
        network: the network.
        lr_scale: factors by pattern; see :func:`freeze`.

    Raises:
        UserError: a pattern matches nothing, or two give a parameter different factors.
    """
    names = [name for name, _ in network.named_parameters()]
    found: dict[str, float] = {}
    said: dict[str, str] = {}
    for pattern, factor in lr_scale.items():
        for name in matches(pattern, names, "model.lr_scale"):
            if found.setdefault(name, factor) != factor:
                raise UserError(
                    f"model.lr_scale: '{name}' is matched by '{said[name]}' and by '{pattern}', with different "
                    "factors: narrow one of the patterns."
                )
            said[name] = pattern
    return found


def optimizer_in_groups(
    make: Callable[[Iterable[Any]], Optimizer],
    named: Mapping[str, nn.Parameter],
    rates: Mapping[str, float],
    decays: Callable[[str, nn.Parameter], bool],
) -> Optimizer:
    """An optimiser with parameter groups for different learning rates and weight decay.

    Args:
        make: function from parameters or parameter groups to an optimiser.
        named: parameters by name.
        rates: factors on the learning rate, by name.
        decays: whether a parameter gets the optimiser's weight decay.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault((rates[name], decays(name, parameter)), []).append(parameter)
    if groups.keys() == {(1.0, True)}:
        return make(list(named.values()))
    plain: dict[bool, dict[str, float]] = {True: {}, False: {"weight_decay": 0.0}}
    optimizer = make([{"params": found, **plain[decayed]} for (_, decayed), found in groups.items()])
    for (rate, _), group in zip(groups, optimizer.param_groups, strict=True):
        group["lr"] *= rate
    return optimizer
