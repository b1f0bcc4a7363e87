"""Logging of results to a Weights & Biases run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hwaware.report.html import NAME as REPORT
from hwaware.report.labels import line_labels, slug
from hwaware.results.costs import NAME as COSTS
from hwaware.results.costs import CostLine
from hwaware.results.csv import COLUMNS
from hwaware.results.refused import NAME as REFUSED
from hwaware.results.row import Row
from hwaware.results.setting import LINE, by_setting
from hwaware.results.summary import summarise
from hwaware.results.timetable import NAME as TIMETABLE


def track(run: Any, rows: Sequence[Row], costs: Sequence[CostLine], plots: Sequence[Path], folder: Path) -> None:
    """Logs rows and costs as tables, mean accuracies as curves over age, the plots and the report.

    The CSV files of the run's folder are logged as an artefact.

    Args:
        run: a Weights & Biases run.
        rows: the measurements.
        costs: costs of repairs.
        plots: PNG files.
        folder: folder of the run.
    """
    import wandb

    logged: dict[str, Any] = {"drift/rows": _table(COLUMNS, rows)}
    logged |= {f"drift/{plot.stem}": wandb.Image(str(plot)) for plot in plots}
    if (folder / REPORT).exists():
        logged["drift/report"] = wandb.Html((folder / REPORT).read_text(encoding="utf-8"))
    if costs:
        logged["drift/costs"] = _table([field.name for field in fields(CostLine)], costs)
    run.log(logged)
    log_files(run, "rows", [folder / name for name in ("rows.csv", "summary.csv", COSTS, REFUSED, TIMETABLE)])
    run.define_metric("drift/age_s")
    run.define_metric("drift/mean/*", step_metric="drift/age_s")
    for same in by_setting(rows).values():
        labels = line_labels(same)
        for one in sorted(summarise(same), key=lambda one: one.age_s):
            label = labels[tuple(getattr(one, name) for name in LINE)]
            run.log({"drift/age_s": one.age_s, f"drift/mean/{slug(same, rows)}/{label}": one.mean})


def log_files(run: Any, kind: str, files: Iterable[Path]) -> None:
    """Logs the existing ones of some files as an artefact ``KIND-RUN`` of a Weights & Biases run."""
    import wandb

    artefact = wandb.Artifact(f"{kind}-{run.id}", type=kind)
    for file in files:
        if file.exists():
            artefact.add_file(str(file))
    run.log_artifact(artefact)


def _table(columns: Sequence[str], items: Iterable[Any]) -> Any:
    import wandb

    return wandb.Table(columns=list(columns), data=[[getattr(item, column) for column in columns] for item in items])
