"""``hwaware sweep``: runs the points of a sweep file, one process each, and writes one table of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hwaware.commands.grid import Point, collect, read_grid, said
from hwaware.commands.processes import run_all
from hwaware.commands.words import WordParser
from hwaware.errors import UserError
from hwaware.report.labels import age_label, low_label
from hwaware.report.tables import accuracy_text
from hwaware.results.criteria import CRITERIA
from hwaware.results.csv import read_rows
from hwaware.results.summary import summarise


def run(arguments: Sequence[str]) -> None:
    """``FILE [--out FOLDER] [--jobs N] [-- MORE ...]``; arguments after ``--`` go to every point's command.

    Raises:
        UserError: the file is wrong, or points failed.
    """
    at = arguments.index("--") if "--" in arguments else len(arguments)
    own, more = arguments[:at], arguments[at + 1 :]
    parser = WordParser(prog="hwaware sweep", description=f"{__doc__} Finished points are kept.", allow_abbrev=False)
    parser.add_argument(
        "file", type=Path, help="a sweep file in the format of W&B, with method grid (recipes/sweeps/*.yaml)"
    )
    parser.add_argument("--out", type=Path, help="folder for results, new or to continue (default: runs/sweeps/NAME)")
    parser.add_argument("--jobs", type=int, default=1, help="points to run at the same time (1)")
    options = parser.parse_args(list(own))
    if options.jobs < 1:
        raise UserError(f"sweep: --jobs {options.jobs} must be at least 1.")
    points = read_grid(options.file, more)
    out = options.out or Path(_root(points[0].arguments), "sweeps", options.file.stem)
    for point in points:
        point.check(out)
    left = [point for point in points if point.rows(out) is None]
    if left and (mistake := left[0].mistake()):  # a mistake in every point, or at least in this one
        raise UserError(f"sweep file '{options.file}': {mistake}")
    failed = _run_points(left, len(points), out, options.jobs)
    rows = collect(points, out)
    if rows:
        Console().print(_table(points, out))
    print(f"{len(rows)} rows: {out / 'rows.csv'}", f"by point and age: {out / 'sweep.csv'}", sep="\n")
    if failed:
        log = failed[0].log(out)
        reason = said(log.read_text(errors="replace")) if log.is_file() else ""
        where = f"{len(failed)} of {len(points)} points failed; the first says why in {log}"
        raise UserError(f"{where}: {reason}" if reason else f"{where}.")


def _root(arguments: Sequence[str]) -> str:
    """The folder of a command's runs."""
    root = "runs"
    for word, following in zip(arguments, (*arguments[1:], ""), strict=True):
        option, equals, value = word.partition("=")
        if option == "--trainer.default_root_dir":
            root = value if equals else following
    return root


def _run_points(points: Sequence[Point], total: int, out: Path, jobs: int) -> list[Point]:
    """Runs the points and reports each one; returns the failed ones."""
    print(f"{total} points, {total - len(points)} of them finished already", flush=True)
    tasks = {point.name: lambda point=point: point.run(out) == 0 and point.rows(out) is not None for point in points}
    failed, _ = run_all(tasks, jobs, total)
    return [point for point in points if point.name in failed]


def _table(points: Sequence[Point], out: Path) -> Table:
    """The first metric at the largest age, one line per finished point and network."""
    found = [(point, summarise(read_rows(file))) for point in points if (file := point.rows(out))]
    first = found[0][1]
    metric, age_s = first[0].metric, max(one.age_s for one in first)
    table = Table(*points[0].values, "network", title=f"{metric} at {age_label(age_s)} (%)")
    low = low_label([one.n_chips for _, summaries in found for one in summaries], CRITERIA)
    table.add_column("mean ± std over chips" + f" ({low})" * bool(low), justify="right")
    for point, summaries in found:
        for one in summaries:
            if (one.metric, one.age_s) == (metric, age_s):
                label = one.network if one.method == "none" else f"{one.network} + {one.method}"
                table.add_row(*map(str, point.values.values()), label, accuracy_text(one))
        table.add_section()
    return table
