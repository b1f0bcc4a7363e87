#!/usr/bin/env python
"""Errors of hwaware's correction for wire resistance, against a nodal solution of the same arrays.

    python scripts/check_wires.py --out results/crossbar_wires        # about two minutes

Writes ``nonnegative.csv`` (voltages as after a ReLU: half of the rows at 0, the others half-normal) and ``signed.csv``
(normal). Arrays have Gaussian weights divided by their largest, in differential pairs side by side or, with the mapping
``offset``, in a cell each. A line is one array with 64 random inputs. Errors are relative: ``rms_…`` of the columns'
currents (error over exact current, both rms), ``max_…`` (largest error over largest current), ``pairs_…`` of the
differences of neighbouring columns (rms), which a network reads from pairs. ``…_uncorrected`` is without wires,
``…_training`` and ``…_evaluation`` as :class:`hwaware.hardware.crossbar.Wires` has them. ``times.csv`` has CPU times of
one layer of 576 × 64 weights in three arrays of 256 rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nodal import currents_ua
from torch import Tensor

from hwaware.hardware import load_device
from hwaware.hardware.crossbar import Wires
from hwaware.results.csv import write_csv
from hwaware.results.provenance import commit

SIZES = ((32, 32), (64, 64), (128, 128), (256, 128))
WIRES = (Wires(segment_ohm=1.0), Wires(segment_ohm=2.5), Wires(segment_ohm=2.5, driver_ohm=100.0))
CELLS = (("reram_cmo", "differential"), ("reram_relative", "differential"), ("reram_cmo", "offset"))
SAMPLES = 64


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("--rows", type=int, default=256, help="of the largest arrays")
    options = parser.parse_args(arguments)

    torch.set_num_threads(1)  # a second thread's waiting would count as CPU time
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = [size for size in SIZES if size[0] <= options.rows]
    lines = [found for one in product(sizes, CELLS, WIRES) for found in errors(*one)]
    for inputs in ("nonnegative", "signed"):
        kept = [line for name, line in lines if name == inputs]
        write_csv(options.out / f"{inputs}.csv", kept[0], [line.values() for line in kept])
    write_csv(options.out / "times.csv", *table(times(options.rows)))


def errors(size: tuple[int, int], cells: tuple[str, str], wires: Wires) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind of inputs and line of a table, for each kind."""
    draws = torch.Generator().manual_seed(0)
    device, mapping = cells
    window = load_device(device)
    low, high = window.g_min_us, window.g_max_us
    g = written(size, low, high, draws, mapping)
    normal = torch.randn(SAMPLES, size[0], generator=draws, dtype=g.dtype)
    on = torch.rand(normal.shape, generator=draws) < 0.5
    inputs = {"nonnegative": normal.abs() * on, "signed": normal}
    exact = torch.from_numpy(currents_ua(g.numpy(), torch.cat([*inputs.values()]).numpy(), **wires.settings()))
    single = g.float()  # as chips have them
    ways = {"uncorrected": g, "training": wires.training_us(single), "evaluation": wires.effective_us(single)}
    for (name, voltages), currents in zip(inputs.items(), exact.split(SAMPLES), strict=True):
        line = {"rows": size[0], "columns": size[1], **wires.settings()}
        line |= {"g_min_us": round(low, 3), "g_max_us": round(high, 3), "mapping": mapping}
        off = {way: voltages @ found.double() - currents for way, found in ways.items()}
        line |= {f"rms_{way}": rounded(wrong.norm() / currents.norm()) for way, wrong in off.items()}
        line |= {f"max_{way}": rounded(wrong.abs().max() / currents.abs().max()) for way, wrong in off.items()}
        line |= {f"pairs_{way}": rounded(read(wrong).norm() / read(currents).norm()) for way, wrong in off.items()}
        yield name, line | {"commit": commit()}


def times(rows: int) -> Iterator[dict[str, Any]]:
    """CPU times (ms) for the arrays of one layer."""
    wires, draws = Wires(segment_ohm=1.0), torch.Generator().manual_seed(0)
    g = written((3, rows, 128), 9.0, 88.2, draws).float()
    g[2, 576 % rows :] = 0  # the last array is not full
    trained = g.clone().requires_grad_()
    one = g[0].double()
    yield {
        "layer": "576 × 64, differential",
        "arrays": f"3 of {rows} × 128",
        "training_ms": cpu_ms(lambda: wires.training_us(g)),
        "training_backward_ms": cpu_ms(lambda: wires.training_us(trained).sum().backward()),
        "evaluation_ms": cpu_ms(lambda: wires.effective_us(g)),
        "nodal_one_array_ms": cpu_ms(lambda: currents_ua(one.numpy(), torch.eye(rows).numpy(), 1.0), repeats=1),
        "commit": commit(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def cpu_ms(call: Callable[[], object], repeats: int = 20) -> float:
    """Of one thread, median; the first call is not counted if there are more."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        spent.append(1000 * (time.process_time() - start))
    return round(median(spent[1:] or spent), 1)


def written(
    shape: tuple[int, ...], low: float, high: float, draws: torch.Generator, mapping: str = "differential"
) -> Tensor:
    """Conductances (µS) of Gaussian weights over each array's largest."""
    *arrays, rows, columns = shape
    count = columns // 2 if mapping == "differential" else columns
    weights = torch.randn(*arrays, rows, count, generator=draws, dtype=torch.float64)
    weights = weights / weights.abs().amax((-2, -1), keepdim=True)
    if mapping == "offset":
        return low + (high - low) * (1 + weights) / 2
    return low + (high - low) * torch.stack([weights.clamp_min(0), -weights.clamp_max(0)], -1).flatten(-2)


def read(currents: Tensor) -> Tensor:
    """Differences of neighbouring columns."""
    return currents[:, ::2] - currents[:, 1::2]


def rounded(share: Tensor) -> float:
    return float(f"{float(share):.2g}")


def table(lines: Iterator[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    found = list(lines)
    return list(found[0]), [list(line.values()) for line in found]


if __name__ == "__main__":
    main()
