"""What an evaluation leaves: rows, plots, the table in the terminal, the tracked run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from hwaware.callbacks.record import log_files
from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.compensation import Repair
from hwaware.compensation.costs import network_size
from hwaware.hardware import Hardware
from hwaware.nn import main_hardware
from hwaware.report.device_plots import plot_conductances, plot_transform
from hwaware.report.html import NAME as REPORT
from hwaware.report.html import Section
from hwaware.report.labels import line_labels, settings, slug, varying_params
from hwaware.report.plots import plot_accuracy, plot_costs
from hwaware.report.tables import accuracy_tables
from hwaware.results.costs import KEY, Costs, cost_of, read_costs
from hwaware.results.costs import NAME as COSTS
from hwaware.results.csv import COLUMNS, write_csv, write_rows
from hwaware.results.row import Row
from hwaware.results.summary import LINE, LOSS_POINTS, group_by, summarise, write_summary

TIMETABLE = "timetable.csv"

#: Cells in a conductance histogram; more would not change the picture.
_HISTOGRAM_CELLS = 200_000


def print_tables(rows: Sequence[Row], loss_points: float = LOSS_POINTS) -> None:
    """The accuracy tables, one per device and metric."""
    console = Console()
    for table in accuracy_tables(rows, loss_points):
        console.print(table)


def write_results(
    rows: Sequence[Row], folder: Path, chance: Mapping[str, float] | None = None, loss_points: float = LOSS_POINTS
) -> list[Section]:
    """Writes ``rows.csv``, ``summary.csv`` (ratios, A*, yield, lifetime) and the plots; returns the latter by setting.

    With a ``costs.csv`` in the folder, accuracy is also drawn against what repairs store.
    """
    write_rows(folder / "rows.csv", rows)
    write_summary(folder / "summary.csv", rows, chance, loss_points)
    costs, varying, sections = costs_in(folder), varying_params(rows), []
    for same in settings(rows):
        # A figure has one network where it is repaired in several ways, else all of them.
        figures, plots = {"": same}, []
        if any(row.method != "none" for row in same):
            figures = {f"_{network}": lines for network, lines in group_by(same, ["network"]).items()}
        for suffix, lines in figures.items():
            name = f"{slug(same, rows)}{suffix}.png"
            plots.append(plot_accuracy(lines, folder / "plots" / f"accuracy_{name}", varying))
            if any(float(line["bytes_stored"]) for line in map(partial(cost_of, costs=costs), lines) if line):
                plots.append(plot_costs(lines, costs, folder / "plots" / f"costs_{name}", varying))
        sections.append(Section(same, plots))
    return sections


def costs_in(folder: Path) -> Costs:
    """What a run's folder says of the costs of repairs."""
    return read_costs(folder / COSTS) if (folder / COSTS).exists() else {}


def write_repairs(folder: Path, repairs: Iterable[tuple[Row, Repair]]) -> list[Path]:
    """Writes what repairs cost (``costs.csv``) and when their parameters change (``timetable.csv``, with a schedule).

    Args:
        folder: the run's.
        repairs: each with one of the rows that were measured with it.
    """
    costs, levels = [], []
    for row, repair in repairs:
        data = repair.data
        size = network_size(repair.model, data.predict, data.calibration(1), data.distillation, data.label_bytes)
        what = {name: getattr(row, name) for name in KEY}
        about = {"commit": row.commit, "version": row.version}
        costs.append(what | {"sets": repair.n_sets} | asdict(repair.cost(size)) | about)
        for level in repair.levels:
            measured = {name: getattr(level, name) for name in ("start_s", "mean", "std", "reached")}
            target = {"target_percent": repair.schedule.target_percent, "drift_free": repair.timetable.drift_free}
            levels.append(what | measured | target | about)
    tables = {COSTS: costs, TIMETABLE: levels}
    return [
        write_csv(folder / name, lines[0], (line.values() for line in lines)) for name, lines in tables.items() if lines
    ]


def plot_device(network: nn.Module, ages_s: Sequence[float], folder: Path, name: str) -> list[Path]:
    """Plots hardware with a converted network in it: conductances at each age on one chip, and the weight curve.

    Args:
        network: converted; of its layers those on the hardware that holds most of it are drawn.
        ages_s: ages in s.
        folder: the run's.
        name: tells the hardware from others in file names.
    """
    chip, hardware = Chip.program(network, CHIP_SEED_START), main_hardware(network)
    samples = {age_s: _conductances(chip, age_s, hardware) for age_s in ages_s}
    return [
        plot_conductances(samples, folder / "plots" / f"conductances_{name}.png", hardware),
        plot_transform(hardware, folder / "plots" / f"transform_{name}.png"),
    ]


def track(run: Any, rows: Sequence[Row], plots: Sequence[Path], folder: Path) -> None:
    """Logs rows and costs as tables, mean accuracies as curves over age, and the plots to a Weights & Biases run.

    So is the report; the CSV files of the run's folder are logged as an artefact.
    """
    import wandb

    data = [[getattr(row, column) for column in COLUMNS] for row in rows]
    logged: dict[str, Any] = {"drift/rows": wandb.Table(columns=list(COLUMNS), data=data)}
    logged |= {f"drift/{plot.stem}": wandb.Image(str(plot)) for plot in plots}
    if (folder / REPORT).exists():
        logged["drift/report"] = wandb.Html((folder / REPORT).read_text(encoding="utf-8"))
    if costs := [*costs_in(folder).values()]:
        logged["drift/costs"] = wandb.Table(columns=[*costs[0]], data=[[*line.values()] for line in costs])
    run.log(logged)
    log_files(run, "rows", [folder / name for name in ("rows.csv", "summary.csv", COSTS, TIMETABLE)])
    run.define_metric("drift/age_s")
    run.define_metric("drift/mean/*", step_metric="drift/age_s")
    for same in settings(rows):
        labels = line_labels(same)
        for one in sorted(summarise(same), key=lambda one: one.age_s):
            label = labels[tuple(getattr(one, name) for name in LINE)]
            run.log({"drift/age_s": one.age_s, f"drift/mean/{slug(same, rows)}/{label}": one.mean})


def device_slugs(rows: Sequence[Row]) -> list[str]:
    """A name for each device in the rows, in their order."""
    return list(dict.fromkeys(slug(same, rows).removesuffix(f"_{same[0].metric}") for same in settings(rows)))


def _conductances(chip: Chip, age_s: float, hardware: Hardware) -> torch.Tensor:
    held = [name for name, target in chip.targets.items() if target.hardware == hardware]
    cells = torch.cat([g.flatten() for name in held for g in chip.conductances_at(name, age_s)])
    return cells[:: max(1, len(cells) // _HISTOGRAM_CELLS)]
