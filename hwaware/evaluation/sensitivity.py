"""Which layers a network's accuracy on aged chips depends on most."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip, drift_free
from hwaware.nn import AnalogLayer, installed_weights, owning_layers, weight_owners
from hwaware.results.sensitivity import LayerSensitivity


@torch.no_grad()
def sensitivity(
    model: nn.Module,
    *,
    accuracy: Callable[[nn.Module], float],
    age_s: float,
    chip_seeds: Iterable[int] = range(VALIDATION_CHIP_SEED_START, VALIDATION_CHIP_SEED_START + 3),
    most: int = 8,
    on_score: Callable[[], None] = lambda: None,
) -> list[LayerSensitivity]:
    """Drifts one layer at a time, then keeps the most sensitive ones exact, one after the other.

    Args:
        model: a converted network in eval mode.
        accuracy: of a network in percent, on samples to choose by.
        age_s: of the chips (s).
        chip_seeds: chips to choose by; never those that results are reported on.
        most: how many layers are kept digital at most; ``kept_accuracy`` is NaN below them.
        on_score: called after each score, for progress.

    Returns:
        The layers, the most sensitive first; layers tied to each other under the name of one.

    Raises:
        UserError: a device's law does not cover the age.
    """
    layers, owners = owning_layers(model), weight_owners(model)
    with drift_free(model):
        exact = accuracy(model)
    programmed = [Chip.program(model, seed) for seed in chip_seeds]
    chips = [{name: chip.weight_at(name, age_s) for name in layers} for chip in programmed]

    def score(drifted: Sequence[str]) -> list[float]:
        values = []
        for weights in chips:

            def chosen(name: str, layer: AnalogLayer, weights: dict[str, Tensor] = weights) -> Tensor:
                return weights[owners[name]] if owners[name] in drifted else layer.effective_weight()

            with installed_weights(model, chosen):
                values.append(accuracy(model))
            on_score()
        return values

    every = statistics.fmean(score(list(layers)))
    losses = {name: [exact - value for value in score([name])] for name in layers}
    ranked = sorted(layers, key=lambda name: -statistics.fmean(losses[name]))
    cells = {name: layer.n_cells for name, layer in layers.items()}
    found, kept = [], 0
    for rank, name in enumerate(ranked, start=1):
        kept += cells[name]
        error = [((weights[name] - layers[name].effective_weight()).norm()).item() for weights in chips]
        found.append(
            LayerSensitivity(
                rank=rank,
                layer=name,
                cells=cells[name],
                age_s=age_s,
                weight_error=_relative(statistics.fmean(error), layers[name].effective_weight().norm().item()),
                loss_points=statistics.fmean(losses[name]),
                loss_std=statistics.stdev(losses[name]) if len(chips) > 1 else 0.0,
                kept_accuracy=statistics.fmean(score(ranked[rank:])) if rank <= most else float("nan"),
                kept_cells_percent=100 * kept / sum(cells.values()),
                exact_accuracy=exact,
                all_accuracy=every,
            )
        )
    return found


def _relative(error: float, norm: float) -> float:
    return error / norm if norm else float("nan")
