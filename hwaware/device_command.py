"""``hwaware device``: what memory technologies there are, what they do, and how that looks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table

from hwaware.devices import Device, device_names, device_to_dict, load_device
from hwaware.errors import UserError, nearest
from hwaware.report.labels import age_label

AGES_S = (0.0, 1.0, 3600.0, 86400.0, 604800.0, 2592000.0, 31536000.0, 315360000.0)

#: States that are shown, as shares of the window.
_STATES = (0.0, 0.25, 0.5, 0.75, 1.0)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"device: {message}")


def run(arguments: Sequence[str]) -> None:
    """``list``, ``show NAME`` or ``plot NAME --out FILE.png``; NAME is a preset or a YAML file."""
    parser = _Parser(prog="hwaware device", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    commands.add_parser("list", help="the presets and their sources")
    for name, text in (("show", "constants, and cells over ten years"), ("plot", "the same as a figure")):
        one = commands.add_parser(name, help=text, allow_abbrev=False)
        one.add_argument("name", help="a preset, or the path of a device's YAML file")
    one.add_argument("--out", type=Path, help="PNG file to write (default: NAME.png)")
    if not arguments or arguments[0] not in (*commands.choices, "-h", "--help"):
        given = arguments[0] if arguments else ""
        raise UserError(f"device: no command '{given}'. {nearest(given, commands.choices)}")
    options = parser.parse_args(list(arguments))
    if options.command == "list":
        Console().print(_presets())
        return
    device = load_device(options.name)
    if options.command == "show":
        print(yaml.safe_dump(_plain(device_to_dict(device)), sort_keys=False, allow_unicode=True, width=1000))
        Console(stderr=True).print(_over_time(device))  # so that what goes to a file is a device file
        return
    from hwaware.report.device_plots import plot_device_law

    out = options.out or Path(f"{device.name}.png")
    if out.suffix != ".png":
        raise UserError(f"device plot: --out '{out}' must end in .png.")
    print(plot_device_law(device, ages(device), out))


def ages(device: Device) -> tuple[float, ...]:
    """The ages (s) of :data:`AGES_S` that tell something about a device."""
    return AGES_S if device.has_time_law else (AGES_S[0], AGES_S[-1])


def _presets() -> Table:
    table = Table("name", "window (µS)", "source", title="devices: --model.device.name NAME")
    for name in device_names():
        device = load_device(name)
        table.add_row(name, f"{device.g_min_us:g}–{device.g_max_us:g}", device.source)
    return table


def _over_time(device: Device) -> Table:
    targets = torch.tensor(_STATES, dtype=torch.float64) * (device.g_max_us - device.g_min_us) + device.g_min_us
    table = Table(title=f"{device.name}: a working cell's conductance (µS) by its target, mean ± standard deviation")
    table.add_column("age")
    for target in targets.tolist():
        table.add_column(f"{target:.4g}", justify="right")
    for age_s in ages(device):
        moments = zip(*(moment.tolist() for moment in device.cell_moments(targets, age_s)), strict=True)
        table.add_row(age_label(age_s), *(f"{mean:.2f} ± {std:.2f}" for mean, std in moments))
    return table


def _plain(values: object) -> object:
    """Tuples as lists, which YAML writes without tags."""
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    return list(map(_plain, values)) if isinstance(values, list | tuple) else values
