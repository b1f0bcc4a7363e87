"""``hwaware export``: writes a network as a bundle, with its planned repairs, and checks it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, Trainer
from rich.console import Console
from rich.table import Table
from torch import nn

from hwaware.callbacks import DriftEvaluation
from hwaware.chip import VALIDATION_CHIP_SEED_START, Chip, drift_free
from hwaware.commands.steps import given_network, set_up_alone, the_one
from hwaware.compensation import Compensation, OfflineCompensation, Schedule, plan
from hwaware.compensation.costs import network_size
from hwaware.errors import UserError
from hwaware.evaluation.batches import Batches
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.run import Run
from hwaware.export.bundle import PlannedRepair, read_bundle, write_bundle
from hwaware.export.repairs import settings_of
from hwaware.nn.adapters import refuse_adapters
from hwaware.report.labels import age_label, method_label
from hwaware.results.costs import bytes_label
from hwaware.tasks import HardwareAwareTask

#: Number of samples by which the scores of the exported and the reloaded network may differ.
_CHANGED = 2


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    evaluation: DriftEvaluation,
    out: str,
    weights: str | None = None,
    ckpt_path: str | None = None,
) -> Path:
    """Writes everything that a chip team needs: conductance targets, scales, and repairs with their timetables.

    The repairs are the offline methods in the recipe's ``evaluation.methods``, planned by ``evaluation.schedule`` or
    its defaults.

    Args:
        trainer: a trainer with one process.
        task: the task; its pretrained weights are exported if no others are given.
        datamodule: the data that repairs are fitted on.
        evaluation: the repairs and their schedule.
        out: folder of the bundle, which must not exist yet.
        weights: a run's ``model.safetensors``, or a plain file (timm, transformers).
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
    """
    set_up_alone(trainer, task, datamodule)
    network = given_network(task, the_one(weights, ckpt_path))
    datamodule.prepare_data()
    schedule = evaluation.schedule or Schedule()
    path = export(Run.of(trainer), task, datamodule, network, out, evaluation.methods, schedule, evaluation.seed)
    print(f"bundle: {path}", flush=True)
    return path


def export(
    run: Run,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    network: nn.Module,
    folder: str | Path,
    methods: Sequence[Compensation],
    schedule: Schedule,
    seed: int,
) -> Path:
    """Converts a digital network for the task's hardware, plans its repairs, writes the bundle, and reads it back.

    Raises:
        UserError: there is no hardware; the folder exists; the reloaded bundle is another network.
    """
    if task.placement is None:
        raise UserError("there is no hardware to export for: give one, e.g. --model.hardware.device.name reram_cmo.")
    if Path(folder).exists():
        raise UserError(f"'{folder}' exists already: give a new folder.")
    refuse_adapters(network, "a bundle")
    offline = [method for method in methods if isinstance(method, OfflineCompensation)]
    for method in offline:
        settings_of(method)  # raises before planning if a bundle can't store it
    model = copy.deepcopy(network).float()
    task.convert(model, task.placement)
    model = model.to(run.torch_device).eval()
    with run.precision():
        task.calibrate(model, datamodule)
    if methods and not offline:
        raise UserError(f"{methods[0].name} is fitted on each chip in the field: there is nothing to export.")
    if left := sorted({method.name for method in methods} - {method.name for method in offline}):
        print(f"left out, since they are fitted on each chip in the field: {', '.join(left)}", flush=True)
    for method in offline:
        ages, chips = len(schedule.grid_s), schedule.instances
        print(f"planning {method.name}: {ages} ages, {chips} simulated chips each (evaluation.schedule)", flush=True)
    data = fit_data(run, task, datamodule)
    size, repairs = network_size(model, data.predict, data.calibration(1), data.distillation, data.label_bytes), []
    with run.progress("planning repairs", len(offline) * len(schedule.grid_s)) as advance:
        for method in offline:
            timetable = plan(method, model, schedule, data, seed, on_age=advance)
            cost = method.cost(size, timetable.n_sets)
            repairs.append(PlannedRepair(method, timetable, cost, schedule))
    for repair in repairs:
        Console().print(_levels(repair))
    path = write_bundle(folder, model, task.network_name, repairs)
    _check(run, task, datamodule, model, path, schedule.oldest_s)
    return path


def _levels(repair: PlannedRepair) -> Table:
    target, stored = repair.schedule.target_percent, bytes_label(repair.cost.bytes_stored)
    name = method_label(repair.method.name, repair.method.params)
    title = f"{name}: target {target:g} % of drift-free, {repair.timetable.n_sets} sets, {stored}"
    table = Table("from", "accuracy there (%)", "target", title=title)
    for level in repair.timetable.levels:
        reached = "reached" if level.reached else "missed"
        table.add_row(age_label(level.start_s), f"{level.mean:.2f} ± {level.std:.2f}", reached)
    return table


def _check(
    run: Run,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    model: nn.Module,
    path: Path,
    age_s: float,
) -> None:
    """Scores the exported and the reloaded network, exact and on one chip, on validation images."""
    bundle, reloaded = read_bundle(path), task.build_network().float()
    bundle.install(reloaded)
    reloaded = reloaded.to(run.torch_device).eval()
    batches = Batches(datamodule, "val", run.torch_device)

    @torch.no_grad()
    def scores(network: nn.Module) -> list[tuple[str, float]]:
        def score() -> float:
            with run.precision():
                return next(iter(task.score(network, batches).values()))

        with drift_free(network):
            found = [("drift-free", score())]
        chip = Chip.program(network, VALIDATION_CHIP_SEED_START)
        with chip.at(age_s):
            found.append((f"a chip at {age_label(age_s)}", score()))
            for repair in bundle.repairs:
                with repair(chip, age_s):
                    found.append((f"the same with {method_label(repair.method.name, repair.method.params)}", score()))
        return found

    # Not by name: a bundle may have two repairs of one method.
    pairs = list(zip(scores(model), scores(reloaded), strict=True))
    table = Table(title=f"{path}: accuracy (%) on validation images")
    for column in ("", "exported", "reloaded"):
        table.add_column(column, justify="right" if column else "left")
    for (what, exported), (_, found) in pairs:
        table.add_row(what, f"{exported:.2f}", f"{found:.2f}")
    Console().print(table)
    # Conductances are stored with seven digits, so a few samples may change, also among few samples.
    most = max(0.5, 100.0 * _CHANGED / batches.n_samples)
    if any(abs(exported - found) > most for (_, exported), (_, found) in pairs):
        raise UserError(f"the bundle '{path}' does not reproduce the network: see the table above.")
