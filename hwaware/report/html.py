"""A run's results as one page that opens without a network."""

from __future__ import annotations

import base64
import csv
import math
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hwaware.report.by_class import class_tables
from hwaware.report.dies import die_tables
from hwaware.report.labels import age_label, assumed_label, metric_label, points_label, varying_params
from hwaware.report.learning import plot_learning
from hwaware.report.side_by_side import best_devices, side_by_side
from hwaware.report.style import GREY, INK, PAPER
from hwaware.report.tables import grids
from hwaware.report.words import in_short, in_words
from hwaware.results.costs import Costs, bytes_label
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.files import replacing
from hwaware.results.hits import Hits
from hwaware.results.provenance import command_line, elapsed_s
from hwaware.results.repairs import listed
from hwaware.results.row import Row
from hwaware.results.setting import by_setting, params_of
from hwaware.results.summary import Summary

NAME = "report.html"

#: Sentences on networks on a device, by its name, its parameters and the mapping.
Remarks = Mapping[tuple[str, str, str], Sequence[str]]

#: Points below base digital up to which a cell of the table counts as near.
_NEAR_POINTS = 5.0

#: Colours of figures in a page, light and dark; files beside it have plain ones, which any program reads.
_THEME = """
<style>
svg { --ink: #1b1f24; --muted: #555555; --paper: #ffffff; fill: var(--ink) }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --muted: #a3a9b1; --paper: #1a1d21 } }
</style>
"""

_THEMED = {INK: "var(--ink)", GREY: "var(--muted)", PAPER: "var(--paper)"}

#: Tables of a run that the page offers, and what they have.
_FILES = {
    "summary.csv": "a line for each network and age: mean, deviation, yield, lifetime",
    "rows.csv": "a line for each measurement",
    "costs.csv": "what repairs store and add",
    "conversion.csv": "what holds each layer",
}

#: Of a table that the page has in it.
_MOST_BYTES = 4_000_000

#: What a result depends on besides this package.
_PACKAGES = ("torch", "lightning", "timm", "transformers", "torchmetrics", "numpy")


@dataclass(frozen=True)
class Section:
    """One setting, or several devices side by side: rows, and the figures (PNG files with an SVG beside each)."""

    rows: Sequence[Row]
    figures: Sequence[Path]


def write_report(
    folder: Path,
    sections: Sequence[Section],
    device_figures: Sequence[Path] = (),
    costs: Costs | None = None,
    criteria: Criteria = CRITERIA,
    hits: Hits | None = None,
    classes: Sequence[Row] = (),
    remarks: Remarks | None = None,
) -> Path:
    """Writes ``report.html`` with all figures in it, and returns its path.

    What else the run's folder holds is shown too: ``metrics.csv`` (training), ``conversion.csv`` (layers),
    ``config.yaml``.

    Args:
        folder: the run's.
        sections: what was measured, most important first.
        device_figures: of the cells.
        costs: what repairs cost.
        criteria: what a good chip is, which percentile is reported, which yield is asked.
        hits: which samples were right, for gains over samples as well.
        classes: rows of single classes.
        remarks: what else is to be said of networks on a device.
    """
    from jinja2 import Environment, PackageLoader

    costs, every = costs or {}, [row for section in sections if not _compares(section) for row in section.rows]
    template = Environment(
        loader=PackageLoader("hwaware.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html.j2")
    tables = iter(grids(every, varying_params(every), costs=costs, criteria=criteria, hits=hits))
    shown = [
        {
            "folded": section.rows[0].metric != every[0].metric,
            "metric": metric_label(section.rows[0].metric),
            "short": best_devices(section.rows) if _compares(section) else in_short(section.rows, criteria),
            "words": [] if _compares(section) else in_words(section.rows, costs, criteria),
            "remarks": _remarks(section, remarks or {}),
            "table": side_by_side(section.rows, costs, criteria, hits) if _compares(section) else next(tables),
            "figures": list(map(_figure, section.figures)),
        }
        for section in sections
    ]
    page = template.render(
        title=" · ".join(dict.fromkeys(row.recipe for row in every)),
        what=_listed(f"{row.model} on {row.dataset}" for row in every),
        sections=shown,
        small_tables=[*die_tables(every, varying_params(every)), *class_tables(classes)],
        device_figures=list(map(_figure, device_figures)),
        learning=_learning(folder),
        shade=partial(_shade, loss_points=criteria.loss_points),
        loss=points_label(criteria.loss_points),
        near=points_label(max(criteria.loss_points, _NEAR_POINTS)),
        isnan=math.isnan,
        layers=_read(folder / "conversion.csv"),
        files=[_file(folder / name, what) for name, what in _FILES.items() if (folder / name).exists()],
        config=_text(folder / "config.yaml"),
        facts=_facts(every),
    )
    path = folder / NAME
    with replacing(path) as file:
        file.write(page.encode())
    return path


def _compares(section: Section) -> bool:
    """Whether it has several devices."""
    return len(by_setting(section.rows)) > 1


def _remarks(section: Section, remarks: Remarks) -> list[str]:
    """What is said of a section's devices."""
    if _compares(section):
        return []
    first = section.rows[0]
    said = list(remarks.get((first.device, first.device_params, first.mapping), ()))
    if assumed := params_of(first.device_params).get("assumed"):
        said.append(f"{first.device}: {assumed_label(assumed)}")
    return said


def _file(path: Path, what: str) -> dict[str, Any]:
    """A file of the run as the page offers it; without its content where that would make the page too large."""
    content = path.read_bytes()
    data = base64.b64encode(content).decode() if len(content) <= _MOST_BYTES else ""
    return {"name": path.name, "what": what, "lines": content.count(b"\n") - 1, "size": bytes_label(len(content)),
            "data": data}  # fmt: skip


def _shade(summary: Summary, loss_points: float) -> str:
    """How a cell is tinted: by points lost against the digital network."""
    return "good" if summary.lost <= loss_points else "near" if summary.lost <= _NEAR_POINTS else "far"


def _learning(folder: Path) -> dict[str, str] | None:
    """The learning curve, where the run has trained."""
    metrics = folder / "metrics.csv"
    png = plot_learning(metrics, folder / "plots" / "learning.png") if metrics.is_file() else None
    return None if png is None else _figure(png)


def _figure(png: Path) -> dict[str, str]:
    svg = base64.b64encode(_themed(png.with_suffix(".svg").read_text(encoding="utf-8")).encode()).decode()
    return {"source": f"data:image/svg+xml;base64,{svg}", "name": png.stem.replace("_", " ")}


def _themed(svg: str) -> str:
    """A figure in the reader's theme: text, lines and paper change with it, colours of networks suit both."""
    text = re.sub("|".join(_THEMED), lambda colour: _THEMED[colour[0]], svg)
    head, tag, rest = text.partition("<defs>")
    return head + _THEME + tag + rest


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    """What the figures follow from."""
    command, seconds = command_line(), elapsed_s()
    facts = {"command": command} if command else {}
    if seconds is not None:
        facts["duration"] = f"{age_label(round(seconds))}, from the start of the command to this page"
    facts |= {
        "recipe": _listed(row.recipe for row in rows),
        "data": _listed(f"{row.dataset} ({row.n_samples:,} samples)" for row in rows),
        "training seeds": _listed(row.seed for row in rows),
        "chip seeds": _span(row.chip_seed for row in rows),
        "hwaware": _listed(f"{row.version}, commit {row.commit or 'unknown'}" for row in rows),
        "repairs": listed(row.method for row in rows) or "none",
        "Python": platform.python_version(),
    }
    return facts | {name: version(name) for name in _PACKAGES}


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _span(values: Iterable[int]) -> str:
    values = sorted(set(values))
    return f"{values[0]} … {values[-1]}" if len(values) > 1 else str(values[0])


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
