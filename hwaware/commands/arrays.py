"""``hwaware arrays``: the arrays of a network, and their operations in one inference: CSV, table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import nn

from hwaware.commands.steps import set_up_alone, tear_down, the_one, write_record
from hwaware.data.contract import dataset_name
from hwaware.errors import UserError
from hwaware.evaluation.arrays import arrays_line, estimate_line, layer_positions, network_arrays
from hwaware.evaluation.fitting import fit_data
from hwaware.evaluation.law import hardware_labels
from hwaware.evaluation.run import Run
from hwaware.evaluation.tracking import log_files
from hwaware.export.weights import load_weights
from hwaware.hardware.crossbar.constants import ArrayConstants, check_bits, load_constants
from hwaware.nn import owning_layers
from hwaware.results.arrays import LayerArrays, LayerEstimate
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit
from hwaware.tasks import HardwareAwareTask

NAME = "arrays.csv"


def run(
    trainer: Trainer,
    task: HardwareAwareTask,
    datamodule: LightningDataModule,
    weights: str | None = None,
    ckpt_path: str | None = None,
    constants: str | None = None,
) -> list[LayerArrays]:
    """Counts arrays of each layer, and reads, conversions and additions of one inference; estimates energy and latency.

    Counts depend on the network's architecture and the hardware, not on its weights.

    Args:
        trainer: a trainer with one process.
        task: the task whose network is counted.
        datamodule: the data; one sample is used.
        weights: a run's ``model.safetensors``, or a plain file (timm, transformers); None: the recipe's network,
            pretrained or not.
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        constants: constants of energy and time for an estimate: ``isaac`` (Shafiee et al., ISCA 2016), or a YAML file
            with the same keys (``hwaware/hardware/crossbar/presets/isaac.yaml``). None: only counts.
    """
    if task.placement is None:
        raise UserError("there is no hardware to count: give one, e.g. --model.hardware.device.name reram_cmo.")
    table = None if constants is None else load_constants(constants)
    if table is not None:
        for hardware in task.placement.every:
            check_bits(hardware.crossbar.converters)
    set_up_alone(trainer, task, datamodule)
    file = the_one(weights, ckpt_path)
    model = (load_weights(task, file)[1] if file else task.build_network()).float()
    report = task.convert(model, task.placement)
    datamodule.prepare_data()
    datamodule.setup("fit")
    write_record(trainer, task, datamodule)
    try:
        made = Run.of(trainer)
        model, data = model.to(made.torch_device).eval(), fit_data(made, task, datamodule)
        costs = network_arrays(model, layer_positions(model, data.predict, data.calibration(1)))
        layers = owning_layers(model)
        counted = [arrays_line(name, layers[name].weight.numel(), one) for name, one in costs.items()]
        estimates = []
        if table is not None and constants is not None:
            found = {name: table.estimate(one, layers[name].converters) for name, one in costs.items()}
            estimates = [estimate_line(constants, one) for one in found.values()]
        console = Console()
        console.print(_table(counted, estimates, task.network_name))
        console.print(_words(counted, estimates, report.n_digital_parameters, table), highlight=False)
        about = {
            "model": task.network_name,
            "dataset": dataset_name(datamodule),
            "digital_parameters": report.n_digital_parameters,
        }
        _write(made, model, counted, estimates, about)
        return counted
    finally:
        tear_down(trainer, task)


def _write(
    run: Run, model: nn.Module, counted: list[LayerArrays], estimates: list[LayerEstimate], about: dict[str, Any]
) -> None:
    """Writes the counts and the estimates to the run's folder."""
    if run.folder is None:
        return
    labels = [asdict(hardware_labels(layer.hardware)) for layer in owning_layers(model).values()]
    made_by = {"commit": commit(), "version": version("hwaware")}
    guessed: list[dict[str, Any]] = [asdict(one) for one in estimates] or [{}] * len(counted)
    lines = [
        asdict(one) | estimate | about | label | made_by
        for one, estimate, label in zip(counted, guessed, labels, strict=True)
    ]
    path = write_csv(run.folder / NAME, lines[0], (line.values() for line in lines))
    for tracker in run.trackers:
        log_files(tracker, "arrays", [path])
    print(f"arrays: {path}", flush=True)


def _table(counted: list[LayerArrays], estimates: list[LayerEstimate], network: str) -> Table:
    heads = ["layer", "arrays", "used %", "parts", "reads", "DACs", "ADCs", "adds", *(["nJ*", "µs*"] * bool(estimates))]
    title = f"{network}: arrays; reads, conversions and additions of one inference"
    caption = "parts: partial sums of each output; DACs, ADCs: conversions; adds: additions"
    # Ten columns in a terminal of 80 characters.
    table = Table(title=title, caption=caption, show_footer=True, box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    footer = ["all", *_cells(_total(counted))]
    footer += [_nj(one.estimated_energy_pj for one in estimates), _us(estimates)] if estimates else []
    for number, (name, last) in enumerate(zip(heads, footer, strict=True)):
        table.add_column(name, last, justify="right" if number else "left", no_wrap=bool(number), overflow="fold")
    for number, one in enumerate(counted):
        mine = estimates[number : number + 1]
        guessed = [_nj(each.estimated_energy_pj for each in mine), _us(mine)] if mine else []
        table.add_row(one.layer, *_cells(one), *guessed)
    return table


def _cells(one: LayerArrays) -> list[str]:
    parts = f"{one.parts}" if one.parts else ""
    counts = (one.reads, one.dac_conversions, one.adc_conversions, one.additions)
    return [f"{one.arrays:,}", f"{one.utilisation_percent:.3g}", parts, *map(_short, counts)]


def _total(counted: list[LayerArrays]) -> LayerArrays:
    """Totals over all layers, whose arrays may differ in size; parts have no sum."""

    def of(name: str) -> Any:
        return sum(getattr(one, name) for one in counted)

    there = sum(one.arrays * one.rows * one.columns for one in counted)
    same = ("layer", "rows", "columns", "parts", "utilisation_percent")
    summed = [field.name for field in fields(LayerArrays) if field.name not in same]
    return LayerArrays(
        layer="all",
        rows=0,
        columns=0,
        parts=0,
        utilisation_percent=100 * of("cells") / there,
        **{name: of(name) for name in summed},
    )


def _words(
    counted: list[LayerArrays], estimates: list[LayerEstimate], digital: int, table: ArrayConstants | None
) -> str:
    """Remarks below the table."""
    total = _total(counted)
    sizes = " and ".join(dict.fromkeys(f"{one.rows} × {one.columns}" for one in counted))
    words = (
        f"{total.arrays:,} arrays of {sizes}: {total.weights:,} weights in {total.cells:,} cells, "
        f"{total.utilisation_percent:.3g} % of the arrays'; {total.dacs:,} rows with DACs, {total.adcs:,} currents to "
        f"convert. {digital:,} parameters stay digital.\nOne inference: {total.dac_conversions:,} DAC and "
        f"{total.adc_conversions:,} ADC conversions, {total.additions:,} additions, {total.cell_reads:,} cell reads."
    )
    if table is None:
        return words
    parts = {
        "DACs": _nj(one.estimated_dac_pj for one in estimates),
        "ADCs": _nj(one.estimated_adc_pj for one in estimates),
        "cells": _nj(one.estimated_cells_pj for one in estimates),
        "additions": _nj(one.estimated_additions_pj for one in estimates),
    }
    each = ", ".join(f"{name} {value}" for name, value in parts.items())
    source = table.source or estimates[0].constants
    return (
        f"{words}\n* Estimated by the constants of {source}: {_nj(one.estimated_energy_pj for one in estimates)} nJ "
        f"({each}) and {_us(estimates)} µs. Only arrays: no buffers, no wires between arrays, no digital layers, no "
        "leakage. Energy of a conversion: for DACs proportional to bits, "
        f"relative to {table.dac_bits}; for ADCs doubled with each bit, relative to {table.adc_bits}. Layers run one "
        "after the other. A read uses all arrays of a layer; it takes the array's time, or the ADC's for its columns."
    )


def _nj(energies_pj: Iterable[float]) -> str:
    return _number(sum(energies_pj) / 1e3)


def _us(estimates: Iterable[LayerEstimate]) -> str:
    return _number(sum(one.estimated_latency_us for one in estimates))


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _short(count: float) -> str:
    """A count with three digits.

    >>> [_short(count) for count in (0, 999, 36_864, 4_000_000)]
    ['0', '999', '36.9k', '4M']
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count}"
