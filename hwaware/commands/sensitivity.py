"""``hwaware sensitivity``: damage of each layer's cells, the first half of a plan: CSV, figure, table."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from rich.table import Table

from hwaware.callbacks import DriftEvaluation
from hwaware.commands.steps import given_network, set_up_alone, tear_down, the_one, write_record
from hwaware.compensation.seeds import planning_chip
from hwaware.data.contract import dataset_name
from hwaware.errors import UserError
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.law import hardware_labels
from hwaware.evaluation.plan import converted, probe_of
from hwaware.evaluation.run import Run
from hwaware.evaluation.sensitivity import sensitivity
from hwaware.evaluation.settings import check_chips
from hwaware.hardware import Hardware, Placement
from hwaware.nn import main_hardware, owning_layers
from hwaware.report.labels import age_label, device_heading
from hwaware.report.plan_plots import plot_sensitivity
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
    evaluation: DriftEvaluation,
    weights: str | None = None,
    ckpt_path: str | None = None,
    age_s: float = 315_360_000.0,
    chips: int = 2,
    samples: int = 100,
) -> list[LayerSensitivity]:
    """Measures the divergence of a network's outputs with one layer at a time in aged cells, on calibration samples.

    Args:
        trainer: a trainer with one process.
        task: the task; its pretrained weights are used if no others are given.
        datamodule: the data.
        evaluation: its seed is the run's.
        weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        age_s: age (s) of the chips.
        chips: number of chips; they are not used for choosing settings or for results.
        samples: number of calibration samples.
    """
    check_chips("chips", chips)
    if samples < 1:
        raise UserError(f"samples={samples} must be at least 1.")
    placement = placement_of(task, age_s)
    set_up_alone(trainer, task, datamodule)
    network = given_network(task, the_one(weights, ckpt_path))
    datamodule.prepare_data()
    datamodule.setup("fit")
    made = Run.of(trainer)
    probe = probe_of(task, fit_data(made, task, datamodule), samples)
    write_record(trainer, task, datamodule)
    try:
        model = converted(made, task, datamodule, network, placement)
        seeds = [planning_chip(evaluation.seed, number) for number in range(chips)]
        with made.progress("measuring layers", len(owning_layers(model))) as advance:
            found = sensitivity(model, probe, age_s=age_s, chip_seeds=seeds, on_layer=advance)
        Console().print(_table(found, task.network_name))
        write_sensitivity(made, task, datamodule, found, main_hardware(model), chips)
        return found
    finally:
        tear_down(trainer, task)


def placement_of(task: HardwareAwareTask, age_s: float) -> Placement:
    """A task's placement; UserError if it has none, or a device's law does not cover the age."""
    if task.placement is None:
        raise UserError("there is no hardware to drift on: give one, e.g. --model.hardware.device.name reram_cmo.")
    for hardware in task.placement.every:
        hardware.device.check_law(age_s)
    return task.placement


def write_sensitivity(
    run: Run,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    found: list[LayerSensitivity],
    main: Hardware,
    chips: int,
) -> None:
    """Writes the measurements to the run's folder, with a figure for the given hardware."""
    folder = run.folder
    if folder is None:
        return
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
    path = write_csv(folder / NAME, lines[0], ([known(value) for value in line.values()] for line in lines))
    heading = (
        f"{task.network_name}, {age_label(found[0].age_s)}, one layer at a time",
        " · ".join(device_heading(hardware_labels(main))),
    )
    usual = [one for one in found if not one.encoding]
    plot = plot_sensitivity(usual, folder / "plots" / "sensitivity.png", heading)
    for tracker in run.trackers:
        _track(tracker, lines, str(plot))
    print(f"sensitivity: {path}", f"plot: {plot}", sep="\n", flush=True)


def _table(found: list[LayerSensitivity], network: str) -> Table:
    shown = found[:_SHOWN]
    title = f"{network} after {age_label(found[0].age_s)}: the {len(shown)} most sensitive of {len(found)} layers"
    caption = (
        "Damage: divergence of the answers (nats) with the layer alone in cells, one in each place; of it, what cells "
        f"are read as on average (bias). All layers together: {sum(one.damage_nats for one in found):.3g}."
    )
    table = Table(title=title, caption=caption)
    for number, name in enumerate(("layer", "weights", "damage", "bias", "share (%)")):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for one in shown:
        damage = f"{one.damage_nats:.3g} ± {one.noise_std:.2g}"
        table.add_row(one.layer, f"{one.weights:,}", damage, f"{one.bias_nats:.2g}", f"{one.share_percent:.3g}")
    return table


def _track(run: Any, lines: list[dict[str, Any]], plot: str) -> None:
    import wandb

    table = wandb.Table(columns=[*lines[0]], data=[[*line.values()] for line in lines])
    run.log({"sensitivity": table, "sensitivity_plot": wandb.Image(plot)})
