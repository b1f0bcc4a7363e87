"""Accuracy over age × chip, paired: every method and network meets the same chips."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version

import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip, drift_free
from hwaware.compensation import Repair
from hwaware.errors import UserError
from hwaware.hardware.devices import Device
from hwaware.nn import analog_layers, digital_layers
from hwaware.results.provenance import commit
from hwaware.results.row import Row, RunLabels

#: Just written, an hour, a day, a week, a month, a year, ten years.
DEFAULT_AGES_S = (0.0, 3600.0, 86400.0, 604800.0, 2592000.0, 31536000.0, 315360000.0)

Score = Callable[[nn.Module], Mapping[str, float]]


def evaluate(
    model: nn.Module,
    device: Device,
    *,
    score: Score,
    base_digital: Mapping[str, float],
    n_samples: int,
    labels: RunLabels,
    ages_s: Sequence[float] = DEFAULT_AGES_S,
    chip_seeds: Iterable[int] = range(CHIP_SEED_START, CHIP_SEED_START + 10),
    repaired: Repair | None = None,
    exact: Mapping[str, float] | None = None,
    on_chip: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Programs chips with a converted network and scores each at each age.

    Args:
        model: a network after :func:`hwaware.nn.convert`; put into eval mode, and back.
        device: the chips' technology.
        score: runs the network over the test set and gives each metric in percent.
        base_digital: the same metrics of the digital network that all started from.
        n_samples: samples that ``score`` uses.
        labels: what identifies the run.
        ages_s: ages in s. Of a device without a law of time only age 0 and the largest are evaluated.
        chip_seeds: one chip each; a rank of several may give its own share.
        repaired: how chips are repaired before they are scored; None: not at all.
        exact: what :func:`score_drift_free` gives, where it is known already.
        on_chip: called after each score, for progress.

    Returns:
        One row per chip, age and metric, chip by chip.

    Raises:
        UserError: an age is not covered; a layer's weight is never used through the layer, so that no chip could act.
    """
    ages_s = ages_to_evaluate(device, ages_s)
    exact = score_drift_free(model, score) if exact is None else exact
    held, rows = held_by(model, device), []
    with _eval_mode(model):
        for seed in chip_seeds:
            chip = Chip.program(model, device, seed)
            for age_s in ages_s:
                repair = nullcontext() if repaired is None else repaired(chip, age_s)
                with chip.at(age_s), repair:
                    values = score(model)
                on_chip()
                rows += [
                    Row(
                        recipe=labels.recipe,
                        model=labels.model,
                        network=labels.network,
                        dataset=labels.dataset,
                        device=device.name,
                        device_params=held,
                        mapping=device.mapping,
                        method=labels.method,
                        method_params=labels.method_params,
                        age_s=age_s,
                        chip_seed=seed,
                        metric=metric,
                        value=value,
                        drift_free=exact[metric],
                        base_digital=base_digital[metric],
                        n_samples=n_samples,
                        seed=labels.seed,
                        commit=commit(),
                        version=version("hwaware"),
                    )
                    for metric, value in values.items()
                ]
    return rows


def held_by(model: nn.Module, device: Device) -> str:
    """What holds a converted network, as the JSON object ``device_params``: the device's parameters; where layers are
    left out of the cells, their names as ``digital``; where there are ``converters``, their settings."""
    params, left_out = device.params(), digital_layers(model)
    if left_out:
        params["digital"] = left_out
    if converters := next((layer.converters for layer in analog_layers(model).values() if layer.converters), None):
        params["converters"] = converters.settings()
    return json.dumps(params, sort_keys=True)


def score_drift_free(model: nn.Module, score: Score) -> dict[str, float]:
    """Metrics in percent of the exact network placed on a chip: as it is written, without errors, drift or noise.

    Raises:
        UserError: a layer's weight is never used through the layer, so that no chip could act.
    """
    with _eval_mode(model), drift_free(model), _all_used(model):
        return score(model)


def ages_to_evaluate(device: Device, ages_s: Sequence[float]) -> tuple[float, ...]:
    """The ages that tell something about a device; each is checked against its law.

    Raises:
        UserError: there is none, they do not ascend, or the law does not cover one.
    """
    ages_s = [float(age_s) for age_s in ages_s]
    if not ages_s:
        raise UserError("there is no age to evaluate at: give ages_s in seconds.")
    if ages_s != (ascending := sorted(set(ages_s))):
        given, wanted = ([int(age) if age.is_integer() else age for age in ages] for ages in (ages_s, ascending))
        raise UserError(f"ages_s={given} must ascend: {wanted}.")
    for age_s in ages_s:
        device.check_law(age_s)
    if not device.has_time_law and ages_s[-1] > 0:
        return (0.0, ages_s[-1]) if ages_s[0] == 0 else (ages_s[-1],)
    return tuple(ages_s)


@contextmanager
def _eval_mode(model: nn.Module):
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _all_used(model: nn.Module):
    """Raises when a layer's forward was never called: some networks read ``layer.weight`` past the layer."""
    layers, called = analog_layers(model), set()
    hooks = [layer.register_forward_pre_hook(lambda *_, name=name: called.add(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    unused = [name for name in layers if name not in called]
    if unused:
        raise UserError(
            f"layer '{unused[0]}' was converted, but the network never calls it (it may read its weight directly), "
            f"so that no chip could act on it: exclude it. {len(unused)} such layers."
        )
