"""``hwaware plan``: plans the cells of each layer for a budget or a target: ``placement.yaml``, tables, a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from rich.table import Table

from hwaware.callbacks import DriftEvaluation
from hwaware.commands.sensitivity import placement_of, write_sensitivity
from hwaware.commands.steps import given_network, set_up_alone, tear_down, the_one, write_record
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.law import hardware_labels
from hwaware.evaluation.plan import Plan, PlanSettings, encoded, make_plan, probe_of
from hwaware.evaluation.run import Run
from hwaware.evaluation.tracking import log_files
from hwaware.hardware import EncodingOptions, Hardware
from hwaware.hardware.plan import plan_text
from hwaware.report.labels import age_label, device_heading
from hwaware.report.plan_plots import plot_plan
from hwaware.results.csv import write_items
from hwaware.results.files import replacing
from hwaware.results.plan import PlannedLayer, PlannedPoint
from hwaware.results.provenance import commit
from hwaware.results.sensitivity import read_sensitivity
from hwaware.tasks import HardwareAwareTask

NAME = "placement.yaml"

_YEAR_S = 31_536_000.0

#: Lines of the table in the terminal.
_SHOWN = 15


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    evaluation: DriftEvaluation,
    weights: str | None = None,
    ckpt_path: str | None = None,
    cells: float | None = None,
    points: float | None = None,
    years: float = 10.0,
    digital_percent: float = 0.0,
    yield_percent: float = 95.0,
    max_parallel: int = 1024,
    samples: int = 100,
    chips: int = 2,
    validation_chips: int = 5,
    validation_samples: int = 1000,
    refine: int = 0,
    alternatives: list[EncodingOptions] | None = None,
    sensitivity: str | None = None,
) -> Plan:
    """Allocates parallel cells to a network's layers, and keeps some digital, for a budget or a target.

    Uses validation samples, planning chips and validation chips, never those that results are reported on.

    Args:
        trainer: a trainer with one process.
        task: the task; its pretrained weights are used if no others are given.
        datamodule: the data.
        evaluation: its seed is the run's.
        weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        cells: budget: largest number of cells, relative to no parallel cells (1.25: 25 % more).
        points: target: largest loss of accuracy (points), reached with as few cells as possible.
        years: age (years) of the chips in the plan.
        digital_percent: largest percentage of weights to keep digital.
        yield_percent: percentage of validation chips that must reach the target.
        max_parallel: most parallel cells.
        samples: calibration samples for measuring the damage of layers.
        chips: planning chips for measuring damage.
        validation_chips: chips for measuring the accuracy of placements.
        validation_samples: most samples for it.
        refine: number of refinements: damages are measured again with all layers as planned, and cells reallocated.
        alternatives: encodings that a layer may use instead of the recipe's, if they do less damage:
            ``[{headroom_us: [2, 1]}, {headroom_us: [5, 2.4]}]``. Measuring each takes as long as the first.
        sensitivity: ``sensitivity.csv`` of the same network and hardware, to skip measuring the layers.
    """
    settings = PlanSettings(
        cells=cells,
        points=points,
        digital_percent=digital_percent,
        age_s=years * _YEAR_S,
        yield_percent=yield_percent,
        max_parallel=max_parallel,
        samples=samples,
        chips=chips,
        validation_chips=validation_chips,
        validation_samples=validation_samples,
        refine=refine,
        alternatives=alternatives or (),
        sensitivities=None if sensitivity is None else read_sensitivity(sensitivity),
        seed=evaluation.seed,
    )
    placement = placement_of(task, settings.age_s)
    for alternative in settings.alternatives:
        encoded(placement, alternative)  # raises before any measurement if it is invalid
    set_up_alone(trainer, task, datamodule)
    network = given_network(task, the_one(weights, ckpt_path))
    datamodule.prepare_data()
    datamodule.setup("fit")
    probe_of(task, fit_data(Run.of(trainer), task, datamodule), settings.samples)  # refuses more than there are
    write_record(trainer, task, datamodule)
    try:
        found = make_plan(Run.of(trainer), task, datamodule, network, placement, settings)
        write_plan(Run.of(trainer), task, datamodule, placement.default or placement.every[0], found)
    finally:
        tear_down(trainer, task)
    return found


def write_plan(
    run: Run, task: HardwareAwareTask, datamodule: LightningDataModule, default: Hardware, found: Plan
) -> None:
    """Prints a plan, and writes placement, tables and figure to the run's folder."""
    Console().print(_layer_table(found, task.network_name), _front_table(found, task.network_name))
    folder = run.folder
    if folder is None:
        return
    label = hardware_labels(default)
    about = (f"{task.network_name}, {age_label(found.settings.age_s)}", " · ".join(device_heading(label)))
    write_sensitivity(run, task, datamodule, found.sensitivities, default, found.settings.chips)
    write_items(folder / "layers.csv", PlannedLayer, found.layers)
    write_items(folder / "front.csv", PlannedPoint, found.front)
    plot = plot_plan(found.layers, found.front, folder / "plots" / "plan.png", about)
    text = plan_text(task.network_name, default, found.hardware, _about(found))
    with replacing(folder / NAME) as file:
        file.write(text.encode())
    for tracker in run.trackers:
        log_files(tracker, "placement", [folder / NAME])
    print(f"placement: {folder / NAME}", f"plot: {plot}", sep="\n", flush=True)


def _about(found: Plan) -> Mapping[str, Any]:
    asked = {key: value for key, value in vars(found.settings).items() if key != "sensitivities" and value is not None}
    asked["alternatives"] = [one.words() for one in found.settings.alternatives]
    chosen = {key: round(value, 4) for key, value in asdict(found.chosen).items() if key != "chosen" and value == value}
    return {"asked": asked, "found": chosen, "commit": commit()}


def _layer_table(found: Plan, network: str) -> Table:
    shown, more = found.layers[:_SHOWN], found.layers[_SHOWN:]
    others = [one.parallel for one in more]
    rest = f" All others have {min(others)} to {max(others)}." if others else ""
    table = Table(
        title=f"{network} after {age_label(found.settings.age_s)}: the {len(shown)} layers that do most damage",
        caption=f"Damage: divergence of the outputs (nats) with only this layer in cells, none parallel.{rest}",
    )
    several = bool(found.settings.alternatives)
    heads = ("layer", "weights", "damage", "cells in parallel", "damage left", *(["encoding"] if several else []))
    for number, name in enumerate(heads):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for one in shown:
        parallel = f"{one.parallel}" if one.parallel else "digital"
        cells = [one.layer, f"{one.weights:,}", f"{one.damage_nats:.3g}", parallel, f"{one.planned_nats:.3g}"]
        table.add_row(*cells, *([one.encoding.strip("{}").replace('"', "")] if several else []))
    return table


def _front_table(found: Plan, network: str) -> Table:
    chosen = found.chosen
    table = Table(
        title=f"{network}: accuracy (%) after {age_label(found.settings.age_s)}",
        caption=f"Validation samples; {found.settings.validation_chips} validation chips, mean ± standard deviation. "
        f"Exact network: {chosen.exact:.2f} %. *: the plan, {chosen.digital_percent:.3g} % of the weights digital.",
    )
    for name in ("cells", "damage (nats)", "predicted", "measured", *(["yield (%)"] if found.settings.points else [])):
        table.add_column(name, justify="right")
    for one in found.front:
        cells = [f"{'* ' * one.chosen}{one.cells_ratio:.3g}", f"{one.nats:.3g}", f"{one.predicted:.2f}"]
        cells.append(f"{one.measured:.2f} ± {one.std:.2f}")
        table.add_row(*cells, *([] if math.isnan(one.yield_percent) else [f"{one.yield_percent:.0f}"]))
    return table
