"""Keeps the initial network if training has not improved it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from hwaware.callbacks.drift import finetuned_network
from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip
from hwaware.errors import UserError
from hwaware.evaluation.fitting import ACCURACY_SAMPLES, fit_data
from hwaware.evaluation.plan import converted
from hwaware.evaluation.run import Run
from hwaware.evaluation.settings import check_chips
from hwaware.nn import adapters
from hwaware.report.labels import age_label
from hwaware.results.csv import write_csv
from hwaware.tasks.of_module import task_of


class KeepBetter(Callback):
    """Keeps the initial network if it is better, on validation samples and chips at one age.

    Training helps if noise is large. If a placement has made it small, training on a few hundred samples may lose more
    than it gains. ``kept.csv`` in the run's folder has both accuracies and the network that ``model.safetensors`` is.

    Args:
        chips: number of chips.
        age_s: their age (s).
        samples: largest number of validation samples.
    """

    def __init__(self, chips: int = 5, age_s: float = 315_360_000.0, samples: int = ACCURACY_SAMPLES) -> None:
        check_chips("KeepBetter: chips", chips)
        if samples < 1:
            raise UserError(f"KeepBetter: samples={samples} must be at least 1.")
        self.chips, self.age_s, self.samples = chips, age_s, samples

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # In this hook, since RunRecord, which comes later, writes the weights in it.
        task, run = task_of(pl_module), Run.of(trainer)
        if trainer.fast_dev_run or task.placement is None:
            return
        task.settle()
        networks, data = {"trained": finetuned_network(task), "untrained": task.build_network()}, trainer.datamodule
        models = {name: converted(run, task, data, network, task.placement) for name, network in networks.items()}
        accuracy = fit_data(run, task, data, self.samples).accuracy
        seeds = range(VALIDATION_CHIP_SEED_START, VALIDATION_CHIP_SEED_START + self.chips)
        found = {name: _accuracies(accuracy, model, seeds, self.age_s) for name, model in models.items()}
        means = {name: statistics.fmean(values) for name, values in found.items()}
        kept = run.broadcast("trained" if means["trained"] > means["untrained"] else "untrained")
        if kept == "untrained":
            there = adapters(task.network)
            for _, adapter in there.values():
                nn.init.zeros_(adapter.up)  # like new adapters, whose output is zero
            task.network.load_state_dict(models[kept].state_dict(), strict=not there)
        rank_zero_info(
            f"{self.chips} validation chips after {age_label(self.age_s)}: trained {means['trained']:.2f} %, untrained "
            f"{means['untrained']:.2f} %; the {kept} network is kept"
        )
        if run.folder is not None and run.is_first:
            lines = [
                (name, seed, value, name == kept)
                for name, values in found.items()
                for seed, value in zip(seeds, values, strict=True)
            ]
            write_csv(run.folder / "kept.csv", ("network", "chip_seed", "accuracy", "kept"), lines)


def _accuracies(
    accuracy: Callable[[nn.Module], float], model: nn.Module, seeds: Iterable[int], age_s: float
) -> list[float]:
    found = []
    for seed in seeds:
        with Chip.program(model, seed).at(age_s), torch.no_grad():
            found.append(accuracy(model))
    return found
