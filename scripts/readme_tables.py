#!/usr/bin/env python
"""Regenerates the tables of README.md and the results' pages; --check lists outdated ones and exits with 1.

    python scripts/readme_tables.py [--check] [FILE.md …]

A table is between `<!-- table: results/cifar10_resnet20/rows.csv mapping=offset metric=top1 kappa=2.0 -->` and
`<!-- /table -->`. Each `KEY=VALUE` selects rows by a field, or a parameter of device or method (null: absent; nested:
`die_spread.drift_mean`). Other keys:

    networks=base,finetuned            networks and their order
    against=NETWORK                    reference of gains (base)
    costs=results/…/costs.csv          adds the costs of repairs
    hits=results/…/hits.npz            intervals of gains over samples as well as over chips
    show=dies                          how much of the differences of chips is between dies, instead of accuracies
    down=rows across=converters.adc_bits    a line for each value of one parameter, a column for each of another

Other tables, with paths relative to the file's folder:

    <!-- table: results/speed/bench_step.csv columns=workload,ratio_cpu -->    columns of a CSV file, unchanged
    <!-- table: results/census/census.csv count=status -->    how many lines have each value of a column
    <!-- table: results/headline.yaml -->          a line for each comparison that the YAML file lists
    <!-- table: few=results/headline.yaml -->      only those that are `in_readme`, in fewer columns
    <!-- table: placements=results/placement.yaml -->    a line for each placement
    <!-- table: devices -->    constants of all devices once for the page, instead of under each table
"""

from __future__ import annotations

import argparse
import collections
import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from hwaware.errors import UserError, nearest
from hwaware.report.dies import die_tables
from hwaware.report.labels import constants, varying_params
from hwaware.report.tables import grids, markdown
from hwaware.results.costs import read_costs
from hwaware.results.csv import COLUMNS, read_rows
from hwaware.results.hits import read_hits
from hwaware.results.row import Row
from hwaware.results.setting import params_of
from hwaware.results.summary import Summary, summarise

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = (_ROOT / "README.md", *sorted(_ROOT.glob("results/**/README.md")))
FILES = tuple(page for page in _PAGES if "<!-- table:" in page.read_text(encoding="utf-8"))
DEVICES = "devices"
TEN_YEARS_S = 315_360_000.0
#: Parameters that rows lack where they are as usual.
_USUAL = {"rows": 512, "columns": 512}
_MARKER = re.compile(r"^<!-- (?:table: (?P<source>.*?)|(?P<close>/table)) -->$", flags=re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A table's place in the text: what its marker asks for, on which line, and where its content starts and ends."""

    source: str
    line: int
    start: int
    end: int


def main(arguments: list[str] | None = None) -> int:
    """Rewrites the files, or with --check compares them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", default=FILES)
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if a table is out of date")
    options = parser.parse_args(arguments)
    return max(_renew(file, options.check) for file in options.files)


def _renew(file: Path, check: bool) -> int:
    try:
        text = file.read_text(encoding="utf-8")
        found = list(blocks(text))
        if not found:
            raise UserError("there is no '<!-- table: … -->' in it.")
        devices: dict[str, dict[str, None]] | None = {} if any(one.source == DEVICES for one in found) else None
        made = {one: table(one, file.parent, devices) for one in found if one.source != DEVICES}
        tables = [f"\n\n{made[one] if one in made else device_list(devices)}\n\n" for one in found]
    except (UserError, FileNotFoundError) as error:
        print(f"{file}: {error}", file=sys.stderr)
        return 2
    stale = [block for block, new in zip(found, tables, strict=True) if text[block.start : block.end] != new]
    for block in stale:
        print(f"{file}, line {block.line}: {'out of date' if check else 'rewritten'}: {block.source}")
    if check:
        return 1 if stale else 0
    for block, new in reversed(list(zip(found, tables, strict=True))):
        text = text[: block.start] + new + text[block.end :]
    if stale:
        file.write_text(text, encoding="utf-8")
    return 0


def blocks(text: str) -> Iterator[Block]:
    """The tables of a text; UserError where a marker has no partner."""
    opened = None
    for marker in _MARKER.finditer(text):
        line = text.count("\n", 0, marker.start()) + 1
        if (marker["close"] is None) == (opened is not None):
            wrong = "before the last table ends" if opened else "ends no table"
            raise UserError(f"line {line}: '{marker[0]}' {wrong}.")
        if opened:
            yield Block(opened["source"], text.count("\n", 0, opened.start()) + 1, opened.end(), marker.start())
        opened = None if opened else marker
    if opened:
        raise UserError(f"'{opened[0]}' is never ended by '<!-- /table -->'.")


def table(block: Block, folder: Path, devices: dict[str, dict[str, None]] | None = None) -> str:
    """The markdown that a block asks for; devices' constants, by name, go into ``devices`` where that is given."""
    try:
        path, *conditions = block.source.split()
        if path.startswith("placements="):
            return placements(folder / path.removeprefix("placements="))
        if path.endswith(".yaml"):
            return headline(folder / path.removeprefix("few="), few=path.startswith("few="))
        wanted = dict(condition.split("=", 1) for condition in conditions)
        if "columns" in wanted:
            return plain_table(folder / path, wanted["columns"].split(","))
        if "count" in wanted:
            return count_table(folder / path, wanted["count"])
        every = rows = read_rows(folder / path)
        costs = read_costs(folder / wanted.pop("costs")) if "costs" in wanted else {}
        hits = read_hits(folder / wanted.pop("hits"), every) if "hits" in wanted else None
        show = wanted.pop("show", None)
        if show not in (None, "dies"):
            raise UserError(f"show={show} is unknown. {nearest(show, ['dies'])}")
        down, across = wanted.pop("down", None), wanted.pop("across", None)
        networks, against = wanted.pop("networks", None), wanted.pop("against", "base")
        for name, value in wanted.items():
            rows = keep(rows, name, value)
        if networks is not None:
            rows = [row for network in networks.split(",") for row in keep(rows, "network", network)]
        if down is not None and across is not None:
            return crossed(rows, down, across)
        named = [name for name in wanted if name not in COLUMNS]
        varying = varying_params(row for row in every if row.device == rows[0].device)
        if show is not None:
            found = die_tables(rows, (*named, *varying))
            if not found:
                raise UserError("no two chips of a die are in these rows (die_spread.chips_per_die).")
            return "\n\n".join(one.markdown() for one in found)
        tables = grids(rows, (*named, *varying), against, costs, hits=hits)
        if devices is not None:
            for row in rows:
                devices.setdefault(row.device, {})[constants(row)] = None
            tables = [replace(one, constants="") for one in tables]
        return markdown(tables)
    except (UserError, FileNotFoundError) as error:
        raise type(error)(f"line {block.line}: {error}") from error
    except ValueError as error:
        raise UserError(f"line {block.line}: '{block.source}' is not 'PATH field=value …'.") from error


def crossed(rows: list[Row], down: str, across: str) -> str:
    """Means ± standard deviations over chips by two parameters; rows that lack one of them are left out.

    Raises:
        UserError: rows of several settings share a cell of the table, or none is left.
    """
    cells: dict[tuple[float, float], str] = {}
    for one in summarise(rows):
        params = _flat(one.device_params)
        values = [params.get(name, _USUAL.get(name)) for name in (down, across)]
        if None in values:
            continue
        place = float(values[0]), float(values[1])
        if place in cells:
            raise UserError(f"several lines of rows have {down}={values[0]} and {across}={values[1]}: select some.")
        cells[place] = f"{one.mean:.1f} ± {one.std:.1f}" if one.n_chips > 1 else f"{one.mean:.1f}"
    if not cells:
        raise UserError(f"no row has both {down} and {across}.")
    lines, columns = (sorted({place[side] for place in cells}) for side in (0, 1))
    body = [[f"{down} \\ {across}", *(f"{value:g}" for value in columns)], ["---", *("---:" for _ in columns)]]
    body += [[f"{line:g}", *(cells.get((line, column), "") for column in columns)] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in body)


def device_list(devices: dict[str, dict[str, None]]) -> str:
    """The constants of devices by name, a line each."""
    if not devices:
        raise UserError(f"'{DEVICES}': no table of the page has a device.")
    return "\n".join(f"* `{name}`: {'; '.join(filter(None, variants))}" for name, variants in devices.items())


def headline(path: Path, few: bool = False) -> str:
    """One line per comparison: the digital network, its chips at ten years as they are, and with a remedy.

    The YAML file is a list of ``what`` (network and data), ``by`` (the remedy), ``rows`` (a path from its folder),
    ``where`` (conditions on all rows), ``chip`` and ``repaired`` (further ones, which leave one line of rows each;
    among them ``rows``, where these are in a file of their own).

    Args:
        path: the YAML file.
        few: only comparisons that are ``in_readme``, without samples and mapping.
    """
    body = []
    for one in yaml.safe_load(path.read_text(encoding="utf-8")):
        if few and not one.get("in_readme"):
            continue
        chip, repaired = (_side(path.parent, one, side) for side in ("chip", "repaired"))
        if (chip.base_digital, chip.n_samples) != (repaired.base_digital, repaired.n_samples):
            raise UserError(f"'{one['what']}': its chips are not those of the same network on the same samples.")
        digital, share = f"{chip.base_digital:.2f}", f"{100 * repaired.ratio_base_digital:.1f} %"
        aged, better = (f"{side.mean:.2f} ± {side.std:.2f}" for side in (chip, repaired))
        on = () if few else (f"{chip.n_samples:,}", chip.mapping)
        body.append([one["what"], *on, digital, aged, one["by"], better, share])
    on = () if few else ("samples", "mapping")
    header = ["network and data", *on, "digital", "after ten years", "remedy", "after ten years with it", "kept"]
    texts = ("network and data", "mapping", "remedy")
    rule = ["---" if name in texts else "---:" for name in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rule, *body])


def _side(folder: Path, one: dict[str, Any], side: str) -> Summary:
    """The one line of rows of a comparison's ``chip`` or ``repaired``."""
    conditions = {"rows": one["rows"], "age_s": TEN_YEARS_S, "metric": "top1", **one["where"], **one[side]}
    kept = read_rows(folder / conditions.pop("rows"))
    for name, value in conditions.items():
        kept = keep(kept, name, _text(value))
    found = summarise(kept)
    if len(found) != 1:
        raise UserError(f"'{one['what']}', {side}: {len(found)} lines of rows are left, not one.")
    return found[0]


def placements(path: Path) -> str:
    """One line per placement: its cells, and what its chips keep after an hour and after ten years.

    The YAML file is a list of ``what`` (network and data), ``rows`` (a path from its folder) and ``where`` (conditions,
    which leave one line of rows at each age; ``layers`` counts those on other hardware).
    """
    header = ["network and data", "mapping", "cells", "weights digital", "digital", "1 h", "10 years", "points lost"]
    body = [header, ["---", "---", *("---:" for _ in header[2:])]]
    for one in yaml.safe_load(path.read_text(encoding="utf-8")):
        kept = read_rows(path.parent / one["rows"])
        conditions = {"metric": "top1", **one["where"]}
        layers = conditions.pop("layers", None)
        for name, value in conditions.items():
            kept = keep(kept, name, _text(value))
        if layers is not None:
            kept = [row for row in kept if len(params_of(row.device_params).get("layers", {})) == layers]
        ages = {found.age_s: found for found in summarise(kept)}
        if len(ages) != len(summarise(kept)) or TEN_YEARS_S not in ages:
            raise UserError(
                f"'{one['what']}': its conditions leave more than one line at an age, or none at ten years."
            )
        params, last = params_of(kept[0].device_params), ages[TEN_YEARS_S]
        young = f"{ages[3600.0].mean:.2f}" if 3600.0 in ages else ""
        body.append(
            [
                one["what"],
                last.mapping,
                f"{params.get('cells_ratio', 1.0):.2f} ×",
                f"{params.get('digital_percent', 0.0):.2f} %",
                f"{last.base_digital:.2f}",
                young,
                f"{last.mean:.2f} ± {last.std:.2f}",
                f"{last.base_digital - last.mean:.2f}",
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in body)


def plain_table(path: Path, columns: list[str]) -> str:
    """Columns of a CSV file as markdown."""
    body = [columns, ["---", *("---:" for _ in columns[1:])], *_columns(path, columns)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in body)


def count_table(path: Path, column: str) -> str:
    """How many lines of a CSV file have each value of a column, the most frequent first, and all of them."""
    counts = collections.Counter(value for (value,) in _columns(path, [column]))
    body = [[column, "lines"], ["---", "---:"], *counts.most_common(), ["all", counts.total()]]
    return "\n".join(f"| {value} | {count} |" for value, count in body)


def _columns(path: Path, columns: list[str]) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for column in columns:
        if not lines or column not in lines[0]:
            raise UserError(f"{path} has no column '{column}'. {nearest(column, lines[0] if lines else ())}")
    return [[line[column] for column in columns] for line in lines]


def keep(rows: list[Row], name: str, value: str) -> list[Row]:
    """The rows with this value in a field or parameter; UserError, with the values there are, if none has it."""
    texts = dict.fromkeys(text for row in rows for text in (row.device_params, row.method_params))
    params = list(map(_flat, texts))
    if name not in COLUMNS and not any(name in one for one in params):
        options = (*COLUMNS, *(name for one in params for name in one))
        hint = nearest(name, dict.fromkeys(options))
        raise UserError(f"rows have neither field nor parameter '{name}'. {hint}")
    values = [getattr(row, name) if name in COLUMNS else _params(row).get(name) for row in rows]
    kept = [row for row, found in zip(rows, values, strict=True) if _same(found, value)]
    if not kept:
        there = ", ".join(dict.fromkeys(_text(found) for found in values))
        raise UserError(f"no row that is left has {name}={value}; there is {there}.")
    return kept


def _params(row: Row) -> dict[str, Any]:
    return {**_flat(row.device_params), **_flat(row.method_params)}


def _flat(text: str) -> dict[str, Any]:
    """Parameters, and those in tables of them as ``TABLE.NAME``."""
    params = params_of(text)
    tables = ((key, value) for key, value in params.items() if isinstance(value, dict))
    return {**params, **{f"{key}.{name}": one for key, value in tables for name, one in value.items()}}


def _same(found: Any, wanted: str) -> bool:
    if isinstance(found, int | float) and not isinstance(found, bool):
        try:
            return float(wanted) == found
        except ValueError:
            return False
    return _text(found) == wanted


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
