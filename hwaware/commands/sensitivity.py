"""``hwaware sensitivity``: a network's layers, ranked by what they lose in aged cells: CSV, figure, table."""

from __future__ import annotations

import copy
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import nn

from hwaware.chip import VALIDATION_CHIP_SEED_START
from hwaware.commands.steps import given_network, set_up_alone, tear_down, the_one, write_record
from hwaware.data.contract import dataset_name
from hwaware.errors import UserError
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.law import hardware_labels
from hwaware.evaluation.run import Run
from hwaware.evaluation.sensitivity import sensitivity
from hwaware.hardware import Placement
from hwaware.nn import analog_layers, main_hardware
from hwaware.report.device_plots import plot_sensitivity
from hwaware.report.labels import age_label, device_heading
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit
from hwaware.results.sensitivity import LayerSensitivity
from hwaware.results.summary import known
from hwaware.tasks import HardwareAwareTask

NAME = "sensitivity.csv"

#: Lines of the table in the terminal.
_SHOWN = 15


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    weights: str | None = None,
    ckpt_path: str | None = None,
    age_s: float = 315_360_000.0,
    chips: int = 3,
    most: int = 8,
) -> list[LayerSensitivity]:
    """Which layers a network's accuracy depends on: one at a time in aged cells, on validation images and chips.

    Args:
        trainer: of one process.
        task: its pretrained weights are ranked where no others are given.
        datamodule: the data.
        weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        age_s: age of the chips (s).
        chips: how many.
        most: of how many layers to keep digital at most the accuracy is measured.
    """
    check_ranking(task, age_s, chips, most)
    set_up_alone(trainer, task, datamodule)
    network = given_network(task, the_one(weights, ckpt_path))
    datamodule.prepare_data()
    datamodule.setup("fit")
    write_record(trainer, task)
    try:
        return rank_layers(Run.of(trainer), task, datamodule, network, age_s, chips, most)
    finally:
        tear_down(trainer, task)


def rank_layers(
    run: Run,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    network: nn.Module,
    age_s: float,
    chips: int,
    most: int,
) -> list[LayerSensitivity]:
    """Converts a digital network for the task's hardware, drifts it layer by layer, and writes what came out."""
    model = copy.deepcopy(network).float()
    task.convert(model, _placement(task))
    model = model.to(run.torch_device).eval()
    with run.precision():
        task.calibrate(model, datamodule)
    data, layers = fit_data(run, task, datamodule), len(analog_layers(model))
    seeds = range(VALIDATION_CHIP_SEED_START, VALIDATION_CHIP_SEED_START + chips)
    with run.progress("drifting layers", chips * (1 + layers + min(most, layers))) as advance:
        found = sensitivity(model, accuracy=data.accuracy, age_s=age_s, chip_seeds=seeds, most=most, on_score=advance)
    Console().print(_table(found, task.network_name))
    folder, main = run.folder, main_hardware(model)
    if folder is not None:
        about = {
            "model": task.network_name,
            "dataset": dataset_name(datamodule),
            "device": main.device.name,
            "mapping": main.encoding.mapping,
            "n_chips": chips,
            "commit": commit(),
            "version": version("hwaware"),
        }
        lines = [asdict(one) | about for one in found]
        cells = ([known(value) for value in line.values()] for line in lines)
        path = write_csv(folder / NAME, lines[0], cells)
        of = " · ".join(device_heading(hardware_labels(main)))
        heading = (f"{task.network_name}, {age_label(age_s)}, one layer at a time", of)
        plot = plot_sensitivity(found, folder / "plots" / "sensitivity.png", heading)
        for tracker in run.trackers:
            _track(tracker, lines, plot)
        print(f"ranking: {path}", f"plot: {plot}", sep="\n", flush=True)
    return found


def check_ranking(task: HardwareAwareTask, age_s: float, chips: int, most: int) -> None:
    """Raises UserError where there is no hardware, its law is not for the age, or there are too few chips or layers."""
    placement = _placement(task)
    for field, value, least in (("chips", chips, 1), ("most", most, 0)):
        if value < least:
            raise UserError(f"{field}={value} must be at least {least}.")
    for hardware in placement.every:
        hardware.device.check_law(age_s)


def _placement(task: HardwareAwareTask) -> Placement:
    """The task's hardware; UserError where it has none."""
    if task.placement is None:
        raise UserError("there is no hardware to drift on: give one, e.g. --model.hardware.device.name reram_cmo.")
    return task.placement


def _table(found: list[LayerSensitivity], network: str) -> Table:
    shown = found[:_SHOWN]
    title = f"{network} after {age_label(found[0].age_s)}: the {len(shown)} most sensitive of {len(found)} layers"
    exact, every = found[0].exact_accuracy, found[0].all_accuracy
    caption = (
        f"Validation samples and chips: {exact:.2f} % exact, {every:.2f} % with every layer in cells. Points lost with "
        "this layer alone in cells. Kept: accuracy with it and all above it digital."
    )
    table = Table(title=title, caption=caption)
    for number, name in enumerate(("layer", "cells", "points lost", "kept (%)", "cells saved (%)")):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for one in shown:
        kept = "" if one.kept_accuracy != one.kept_accuracy else f"{one.kept_accuracy:.2f}"
        lost = f"{one.loss_points:.2f} ± {one.loss_std:.2f}"
        table.add_row(one.layer, f"{one.cells:,}", lost, kept, f"{one.kept_cells_percent:.3g}")
    return table


def _track(run: Any, lines: list[dict[str, Any]], plot: Path) -> None:
    import wandb

    table = wandb.Table(columns=[*lines[0]], data=[[*line.values()] for line in lines])
    run.log({"sensitivity": table, "sensitivity_plot": wandb.Image(str(plot))})
