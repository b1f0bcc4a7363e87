"""``hwaware device``: lists, shows, plots, fits and simulates memory technologies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from hwaware.commands.words import WordParser
from hwaware.errors import UserError, nearest
from hwaware.hardware import Codes, Device, device_names, load_device
from hwaware.hardware.devices import device_file, read_device_file
from hwaware.hardware.encoding.favourability import states_by_error_current
from hwaware.hardware.load import build_encoding
from hwaware.report.labels import age_label
from hwaware.system.reading import seconds

AGES_S = (0.0, 1.0, 3600.0, 86400.0, 604800.0, 2592000.0, 31536000.0, 315360000.0)

#: Ages (s) of readings in a simulated measurement: up to a month, as in laboratories.
_TIMES_S = (0.0, 1.0, 60.0, 3600.0, 86400.0, 604800.0, 2592000.0)
_TARGETS = 12

#: States that are shown, as fractions of the window.
_STATES = (0.0, 0.25, 0.5, 0.75, 1.0)


def run(arguments: Sequence[str]) -> None:
    """``list``, ``show NAME``, ``plot NAME``, ``fit CSV --out YAML``, ``simulate NAME --out CSV``.

    NAME is a preset or a YAML file.
    """
    parser = WordParser(prog="hwaware device", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=WordParser)
    commands.add_parser("list", help="the presets and their sources")
    for name, text in (("show", "constants, and cells over ten years"), ("plot", "the same as a figure")):
        one = commands.add_parser(name, help=text, allow_abbrev=False)
        one.add_argument("name", help="a preset, or the path of a device's YAML file")
    one.add_argument("--out", type=Path, help="PNG file to write (default: runs/devices/NAME.png)")
    _add_fit(commands.add_parser("fit", help="a device file from measured conductances", allow_abbrev=False))
    _add_simulate(commands.add_parser("simulate", help="such measurements of a known device", allow_abbrev=False))
    if not arguments or arguments[0] not in (*commands.choices, "-h", "--help"):
        given = arguments[0] if arguments else ""
        raise UserError(f"device: no command '{given}'. {nearest(given, commands.choices)}")
    options = parser.parse_args(list(arguments))
    {"list": _list, "show": _show, "plot": _plot, "fit": _fit, "simulate": _simulate}[options.command](options)


def _list(options: argparse.Namespace) -> None:
    Console().print(_presets())


def _show(options: argparse.Namespace) -> None:
    device, encoding = load_device(options.name), read_device_file(options.name).encoding
    print(device_file(device, encoding))
    console = Console(stderr=True)  # so that what goes to a file is a device file
    console.print(_over_time(device))
    codes = build_encoding(encoding).format
    if isinstance(codes, Codes):
        console.print(_ranked_states(device, codes))


def _plot(options: argparse.Namespace) -> None:
    from hwaware.evaluation.law import device_labels, law_curve
    from hwaware.report.device_plots import plot_device_law

    device = load_device(options.name)
    out = options.out or Path("runs", "devices", f"{device.name}.png")
    if out.suffix != ".png":
        raise UserError(f"device plot: --out '{out}' must end in .png.")
    curves = [law_curve(device, age_s) for age_s in ages(device)]
    print(plot_device_law(curves, device_labels(device), device.unmeasured_us, out))


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "csv",
        type=Path,
        help="readings: cell,target_us,time_s (or timestamp),conductance_us; for repeats reading, for dies die; or a "
        "table of states: state,mean_us,std_us and, if known, age_s and n",
    )
    parser.add_argument(
        "--start",
        help="when cells were written, for timestamps (default: column written_at, or each cell's first time)",
    )
    parser.add_argument("--out", type=Path, required=True, help="device file to write; tables and figures go beside it")
    parser.add_argument("--name", help="name of the device in results (default: name of the file)")


def _fit(options: argparse.Namespace) -> None:
    if options.out.suffix != ".yaml":
        raise UserError(f"device fit: --out '{options.out}' must end in .yaml.")
    from hwaware.commands.fit_files import fit_files, fit_remarks, fit_tables, write_fit
    from hwaware.evaluation.device_fit import agreement
    from hwaware.hardware.devices.fit import fit_device, read_measurements

    fit_files(options.out, options.csv)  # refuses early what can't be written
    readings = read_measurements(options.csv, options.start)
    source = f"own measurements: {options.csv.name}, {readings.described}"
    fit = fit_device(readings, options.name or options.out.stem, source)
    rows = agreement(fit)
    files = write_fit(fit, rows, options.out, options.csv)
    for table in fit_tables(fit, rows):
        Console().print(table)
    print(*fit_remarks(fit, rows), *files, sep="\n")


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a preset, or the path of a device's YAML file")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--cells", type=int, default=1000, help="number of cells (1000)")
    parser.add_argument("--times", type=_seconds, nargs="+", default=_TIMES_S, help="ages, 3600 or 1h (0 to a month)")
    parser.add_argument("--targets", type=float, nargs="+", help="targets in µS (default: 12 over the window)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cells (0)")
    parser.add_argument("--repeats", type=int, default=1, help="readings of a cell at each age (1)")
    parser.add_argument("--dies", type=int, default=1, help="number of dies; the first has the seed (1)")


def _simulate(options: argparse.Namespace) -> None:
    from hwaware.commands.readings import simulate_readings
    from hwaware.results.files import refuse_folder, replacing

    refuse_folder(options.out)
    device = load_device(options.name)
    targets = options.targets or np.linspace(device.g_min_us, device.g_max_us, _TARGETS).tolist()
    counts = options.seed, options.repeats, options.dies
    text = simulate_readings(device, options.cells, options.times, targets, *counts)
    with replacing(options.out) as file:
        file.write(text.encode())
    print(options.out)


def ages(device: Device) -> tuple[float, ...]:
    """The ages (s) of :data:`AGES_S` that a device's law covers and that are worth showing."""
    covered = tuple(age_s for age_s in AGES_S if not 0 < device.equivalent_age_s(age_s) < device.youngest_s)
    return covered if device.has_time_law else (AGES_S[0], AGES_S[-1])


def _presets() -> Table:
    table = Table("name", "window (µS)", "source", title="devices: --model.hardware.device.name NAME")
    for name in device_names():
        device = load_device(name)
        table.add_row(name, f"{device.g_min_us:g}–{device.g_max_us:g}", device.source)
    return table


def _over_time(device: Device) -> Table:
    targets = torch.tensor(_STATES, dtype=torch.float64) * (device.g_max_us - device.g_min_us) + device.g_min_us
    table = Table(title=f"{device.name}: conductance (µS) of a cell by its target, mean ± standard deviation")
    if device.measured_s or device.measured_us:
        table.caption = "* beyond what was measured: extrapolated"
    table.add_column("age")
    for target in targets.tolist():
        outside = any(low <= target <= high for low, high in device.unmeasured_us)
        table.add_column(f"{target:.4g}" + " *" * outside, justify="right")
    for age_s in ages(device):
        moments = zip(*(moment.tolist() for moment in device.cell_moments(targets, age_s)), strict=True)
        table.add_row(
            age_label(age_s) + " *" * device.extrapolates(age_s), *(f"{mean:.2f} ± {std:.2f}" for mean, std in moments)
        )
    return table


def _ranked_states(device: Device, codes: Codes) -> Table:
    title = f"{device.name}: states of a {codes.slice_bits}-bit slice by error current, the most favourable first"
    table = Table(title=title, caption="target conductance (µS) ± root mean square error (µS)")
    table.add_column("rank")
    shown = (AGES_S[0], AGES_S[-1]) if device.has_time_law else AGES_S[:1]
    rankings = [states_by_error_current(device, codes, age_s) for age_s in shown]
    for age_s in shown:
        table.add_column(age_label(age_s), justify="right")
    for rank, states in enumerate(zip(*rankings, strict=True), start=1):
        cells = (f"{one.state:0{codes.slice_bits}b}: {one.conductance_us:.4g} ± {one.error_us:.3g}" for one in states)
        table.add_row(str(rank), *cells)
    return table
