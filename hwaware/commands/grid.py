"""Grids of settings: Weights & Biases' sweep files, run without its server, and their rows as one table.

A sweep file names a command and the values of some of its options, in the format of ``wandb sweep``. Here each point of
the grid is a process of its own, with a folder named after its values.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hwaware.commands.jobs import as_word
from hwaware.commands.packaged import found_recipe, nearest_recipe
from hwaware.commands.processes import run_logged
from hwaware.errors import UserError, nearest
from hwaware.results.csv import merge_rows, read_rows, write_csv, write_rows
from hwaware.results.files import replacing
from hwaware.results.row import Row
from hwaware.results.summary import summarise
from hwaware.system.reading import read_json, read_yaml

#: Columns of the summary, beside the swept values.
_COLUMNS = (
    "network", "device", "mapping", "method", "method_params", "metric", "age_s",
    "n_chips", "n_samples", "mean", "std", "worst", "drift_free", "base_digital",
)  # fmt: skip

_KEYS = ("program", "command", "method", "metric", "parameters", "name", "description", "project", "entity")


@dataclass(frozen=True)
class Point:
    """One point of a grid.

    Attributes:
        name: name of its folder, and recipe in its rows.
        values: values of the swept options.
        arguments: arguments of its ``hwaware`` command, without the output folder.
    """

    name: str
    values: dict[str, Any]
    arguments: tuple[str, ...]

    def rows(self, out: Path) -> Path | None:
        """The finished point's ``rows.csv`` under a sweep's folder; None where there is none."""
        found = (out / self.name).glob("version_*/rows.csv")
        return max(found, key=lambda path: path.stat().st_mtime, default=None)

    def log(self, out: Path) -> Path:
        """Path of its log."""
        return out / self.name / "log.txt"

    def check(self, out: Path) -> None:
        """Raises UserError if its folder contains the rows of another command."""
        record = out / self.name / "point.json"
        if self.rows(out) and (not record.is_file() or read_json(record, "record") != list(self.arguments)):
            raise UserError(f"'{record.parent}' has the rows of another command: give another --out, or remove it.")

    def mistake(self) -> str:
        """The error of the command line for the point's arguments; runs nothing."""
        command = [sys.executable, "-m", "hwaware", *self.arguments, "--print_config"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return said(done.stderr) if done.returncode else ""

    def run(self, out: Path) -> int:
        """Runs the point in its own process; returns the exit status."""
        with replacing(out / self.name / "point.json") as file:
            file.write(json.dumps(self.arguments).encode())
        # The logger is the sweep server's; without it the run's folder has everything.
        where = ("--recipe", self.name, "--trainer.logger", "null", "--trainer.default_root_dir", str(out))
        return run_logged([sys.executable, "-m", "hwaware", *self.arguments, *where], self.log(out))


def said(output: str) -> str:
    """The last error message of a failed command; empty if there is none."""
    return output.rstrip().rpartition("\n")[2].partition("hwaware: ")[2]


def read_grid(path: str | Path, more: Sequence[str] = ()) -> list[Point]:
    """The points of a sweep file, the last option's values running fastest.

    Args:
        path: a file in the format of ``wandb sweep`` with ``method: grid`` and a ``command`` of this package.
        more: further arguments of every point's command; they win over the file's.

    Raises:
        UserError: there is no such file, or it is not of that form.
    """
    path = found_recipe(path)
    if not path.is_file():
        raise UserError(f"there is no sweep file '{path}'. {nearest_recipe(path)}".rstrip())
    sweep = read_yaml(path, "sweep file")
    if not isinstance(sweep, dict) or not isinstance(sweep.get("parameters"), dict) or not sweep["parameters"]:
        raise UserError(f"'{path}' is not a sweep file: it has no table 'parameters'.")
    for key in sweep:
        if key not in _KEYS:
            raise UserError(f"sweep file '{path}': '{key}' is unknown. {nearest(key, _KEYS)}")
    if sweep.get("method") != "grid":
        raise UserError(
            f"sweep file '{path}': method '{sweep.get('method')}' needs W&B (wandb sweep); here it is 'grid'."
        )
    values = {name: _values(name, given, path) for name, given in sweep["parameters"].items()}
    for argument in more:
        if (name := argument.removeprefix("--").partition("=")[0]) in values:
            raise UserError(f"--{name} is swept by '{path}': it can't be given as well.")
    short = {name: name.rpartition(".")[2] for name in values}
    if len(set(short.values())) < len(short):
        short = {name: name for name in values}
    points = []
    for chosen in product(*values.values()):
        point = dict(zip(values, chosen, strict=True))
        text = "_".join(f"{short[name]}={value}" for name, value in point.items())
        arguments = _arguments(sweep, [f"--{name}={as_word(value)}" for name, value in point.items()], path)
        points.append(Point(re.sub(r"[^\w.=+-]+", "-", text), point, (*arguments, *more)))
    if len({point.name for point in points}) < len(points):
        raise UserError(f"sweep file '{path}': two of its points have the same values.")
    return points


def collect(points: Sequence[Point], out: Path) -> list[Row]:
    """Merges the finished points' rows into ``rows.csv``, and their statistics over chips into ``sweep.csv``.

    ``sweep.csv`` has a column per swept option (its full name), and a line per point, network, repair, metric and age:
    see :class:`hwaware.results.summary.Summary` for its statistics.
    """
    rows: list[Row] = []
    lines = []
    for point in points:
        file = point.rows(out)
        if file is None:
            continue
        own = read_rows(file)
        rows = merge_rows(rows, own)
        lines += [[*point.values.values(), *(getattr(one, name) for name in _COLUMNS)] for one in summarise(own)]
    write_rows(out / "rows.csv", rows)
    write_csv(out / "sweep.csv", (*points[0].values, *_COLUMNS), lines)
    return rows


def _values(name: str, given: Any, path: Path) -> list[Any]:
    if isinstance(given, dict) and "value" in given:
        return [given["value"]]
    if isinstance(given, dict) and isinstance(given.get("values"), list) and given["values"]:
        return given["values"]
    raise UserError(f"sweep file '{path}': {name} needs 'value' or a list of 'values'; a grid has no distributions.")


def _arguments(sweep: dict[str, Any], swept: Sequence[str], path: Path) -> list[str]:
    """The command as W&B's agent composes it, without the program."""
    command = sweep.get("command") or ["${env}", "${interpreter}", "${program}", "${args}"]
    if not isinstance(command, list):
        raise UserError(f"sweep file '{path}': command '{command}' is not a list of words.")
    macros = {"${env}": [], "${program}": [str(sweep.get("program"))], "${args}": swept}
    words = [word for part in map(str, command) for word in macros.get(part, [part])]
    if "${args}" not in command or words[:1] != ["hwaware"] or any("${" in word for word in words):
        raise UserError(
            f"sweep file '{path}': its command must be like ['${{env}}', hwaware, fit, --config, RECIPE, '${{args}}']."
        )
    return words[1:]
