"""Accuracy over age × chip, paired: all methods and networks use the same chips."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip, drift_free
from hwaware.compensation import Repair
from hwaware.errors import UserError
from hwaware.hardware import Device, Hardware
from hwaware.nn import analog_layers, digital_layers, main_hardware, owning_layers
from hwaware.nn.install import eval_mode
from hwaware.nn.layers import shape_in_cells
from hwaware.results.provenance import commit
from hwaware.results.row import Row, RunLabels

#: Just written, an hour, a day, a week, a month, a year, ten years.
DEFAULT_AGES_S = (0.0, 3600.0, 86400.0, 604800.0, 2592000.0, 31536000.0, 315360000.0)

Score = Callable[[nn.Module], Mapping[str, float]]


def evaluate(
    model: nn.Module,
    *,
    score: Score,
    base_digital: Mapping[str, float],
    n_samples: int,
    labels: RunLabels,
    ages_s: Sequence[float] = DEFAULT_AGES_S,
    chip_seeds: Iterable[int] = range(CHIP_SEED_START, CHIP_SEED_START + 10),
    repaired: Repair | None = None,
    exact: Mapping[str, float] | None = None,
    drawn: bool = False,
    on_score: Callable[[Sequence[Row], Mapping[str, float]], None] = lambda rows, values: None,
) -> list[Row]:
    """Programs a converted network into chips and scores each chip at each age.

    Args:
        model: a network after :func:`hwaware.nn.convert`; it is in eval mode meanwhile.
        score: function from the network to each metric (percent) on the test set.
        base_digital: the same metrics of the pretrained digital network.
        n_samples: number of samples that ``score`` uses.
        labels: labels that identify the run.
        ages_s: ages (s). For devices with a time-independent law, only age 0 and the largest one are evaluated.
        chip_seeds: seeds of the chips; with several ranks, each may give its own share.
        repaired: repair of a chip before scoring, such as a :class:`~hwaware.compensation.Repair`; None: no repair.
        exact: the output of :func:`score_drift_free`, if it is already known.
        drawn: whether each chip draws its devices' constants from their bootstrap uncertainty.
        on_score: called after each score with its rows and the output of ``score``.

    Returns:
        One row per chip, age and metric, chip by chip.

    Raises:
        UserError: a law does not cover an age; the network reads a layer's weight directly, which no chip can affect.

    Examples:
        >>> import hwaware, torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 2))
        >>> report = hwaware.convert(network, hwaware.load_hardware("reram_cmo", mapping="differential"))
        >>> labels = hwaware.RunLabels(recipe="mine", model="linear", network="base", dataset="ones", seed=0)
        >>> def score(model):
        ...     return {"top1": 100.0 * bool(model(torch.ones(1, 8)).isfinite().all())}
        >>> settings = {"base_digital": {"top1": 100.0}, "n_samples": 1, "labels": labels}
        >>> chips, ages_s = range(2_000_000, 2_000_002), (0.0, 3600.0)
        >>> rows = evaluate(network, score=score, ages_s=ages_s, chip_seeds=chips, **settings)
        >>> [(row.age_s, row.value) for row in rows]
        [(0.0, 100.0), (3600.0, 100.0), (0.0, 100.0), (3600.0, 100.0)]
    """
    ages_s = ages_to_evaluate(devices_of(model), ages_s)
    exact = score_drift_free(model, score) if exact is None else exact
    main, held, rows = main_hardware(model), held_by(model, drawn), []
    with eval_mode(model):
        for seed in chip_seeds:
            chip = Chip.program(model, seed, drawn)
            for age_s in ages_s:
                repair = nullcontext() if repaired is None else repaired(chip, age_s)
                with chip.at(age_s), repair:
                    values = score(model)
                found = [
                    Row(
                        recipe=labels.recipe,
                        model=labels.model,
                        network=labels.network,
                        dataset=labels.dataset,
                        device=main.device.name,
                        device_params=held,
                        mapping=main.encoding.mapping,
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
                on_score(found, values)
                rows += found
    return rows


def devices_of(model: nn.Module) -> tuple[Device, ...]:
    """The memory technologies of a converted network, each once."""
    return tuple(dict.fromkeys(layer.hardware.device for layer in analog_layers(model).values()))


def held_by(model: nn.Module, drawn: bool = False) -> str:
    """The hardware of a converted network, as the JSON object ``device_params``.

    It has the parameters of the hardware that holds most weights. ``digital`` lists the layers that stay digital.
    ``layers`` has the differences of layers on other hardware, by name. ``cells_ratio`` is the number of cells relative
    to all layers in cells without parallel cells; ``digital_percent`` is the percentage of weights that stay digital.
    Both are left out if they are 1 and 0. ``drawn_constants`` is set if each chip draws its devices' constants.
    """
    main = main_hardware(model)
    params = main.params() | _shares(model, main) | ({"drawn_constants": True} if drawn else {})
    if left_out := digital_layers(model):
        params["digital"] = left_out
    layers = analog_layers(model).items()
    if differing := {name: _differs(layer.hardware, main) for name, layer in layers if layer.hardware != main}:
        params["layers"] = differing
    return json.dumps(params, sort_keys=True)


def _shares(model: nn.Module, main: Hardware) -> dict[str, float]:
    """``cells_ratio`` and ``digital_percent``."""
    modules, layers = dict(model.named_modules()), owning_layers(model)
    digital = [modules[name] for name in digital_layers(model)]
    places = [(main, one) for one in digital] + [(one.hardware, one) for one in layers.values()]
    single = [on.with_parallel(1).n_cells(shape_in_cells(one), getattr(one, "groups", 1)) for on, one in places]
    ratio = round(sum(one.n_cells for one in layers.values()) / sum(single), 4)
    weights = [sum(one.weight.numel() for one in some) for some in (digital, layers.values())]
    percent = round(100 * weights[0] / sum(weights), 4)
    shares = {"cells_ratio": (ratio, 1.0), "digital_percent": (percent, 0.0)}
    return {name: share for name, (share, usual) in shares.items() if share != usual}


def _differs(hardware: Hardware, main: Hardware) -> dict[str, Any]:
    """The parameters of a hardware that differ from the main one's; null if it lacks one."""
    own, theirs = (
        {"device": one.device.name, "mapping": one.encoding.mapping} | one.params() for one in (hardware, main)
    )
    return {key: own.get(key) for key in {**theirs, **own} if own.get(key) != theirs.get(key)}


def score_drift_free(model: nn.Module, score: Score) -> Mapping[str, float]:
    """Metrics (percent) of the network on exact hardware: without programming error, drift, stuck cells and read noise.

    Raises:
        UserError: the network reads a layer's weight directly, which no chip can affect.
    """
    with eval_mode(model), drift_free(model):
        return score(model)


def ages_to_evaluate(devices: Sequence[Device], ages_s: Sequence[float]) -> tuple[float, ...]:
    """The ages (s) to evaluate for some devices, checked against their laws; time-independent laws need only one.

    Raises:
        UserError: there is no age, they do not ascend, or a law does not cover one.
    """
    ages_s = [float(age_s) for age_s in ages_s]
    if not ages_s:
        raise UserError("there is no age to evaluate at: give ages_s in seconds.")
    if ages_s != (ascending := sorted(set(ages_s))):
        given, wanted = ([int(age) if age.is_integer() else age for age in ages] for ages in (ages_s, ascending))
        raise UserError(f"ages_s={given} must ascend: {wanted}.")
    for age_s in ages_s:
        for device in devices:
            device.check_law(age_s)
    if not any(device.has_time_law for device in devices) and ages_s[-1] > 0:
        return (0.0, ages_s[-1]) if ages_s[0] == 0 else (ages_s[-1],)
    return tuple(ages_s)
