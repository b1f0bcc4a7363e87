"""From what a run writes to lines: a key, which joins what identifies a number, and the number's text."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

Lines = Iterator[tuple[str, str]]

#: Columns of tables that change with every commit, or that ``rows.csv`` has already.
_LEFT_OUT = ("commit", "version", "device_params", "method_params")


def lines_of_rows(folder: Path) -> Lines:
    """A run's ``rows.csv``."""
    with (folder / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # The same in all rows, or of a method or metric alone.
    same = ("recipe", "model", "dataset", "device", "mapping", "n_samples", "seed")
    shared: dict[str, str] = {}
    for row in rows:
        shared |= {f"run|{name}": row[name] for name in same}
        shared["run|device_params"] = _canonical(row["device_params"])
        of_method = "|".join((row["network"], row["method"]))
        shared[f"{of_method}|method_params"] = _canonical(row["method_params"])
        shared[f"{of_method}|{row['metric']}|drift_free"] = row["drift_free"]
        shared[f"{row['metric']}|base_digital"] = row["base_digital"]
    yield from shared.items()
    for row in rows:
        about = (row["network"], row["method"], f"age {float(row['age_s']):.10g} s", f"chip {row['chip_seed']}")
        yield "|".join((*about, row["metric"], "value")), row["value"]


def lines_of_csv(file: Path, *key: str) -> Lines:
    """Any other table, each cell by the columns that identify its line."""
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            about = [file.name, *(row[name] for name in key)]
            for name, value in row.items():
                if name not in (*key, *_LEFT_OUT):
                    yield "|".join((*about, name)), value


def lines_of_losses(folder: Path) -> Lines:
    """What a training logged at each step."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("epoch", "step"):
                    yield f"epoch {row['epoch']}|step {row['step']}|{name}", value


def lines_of_weights(folder: Path) -> Lines:
    """The tensors that a run ends with."""
    state = load_file(folder / "model.safetensors")
    yield "model.safetensors|sha256", hash_of(state)
    yield "model.safetensors|norm", repr(norm_of(state.values()))


def lines_of_output(key: str, output: Tensor) -> Lines:
    """A network's output: its hash, and the numbers for the first sample, for eyes and for other processors."""
    yield f"{key}|sha256", hash_of({"output": output})
    yield f"{key}|norm", repr(norm_of([output]))
    for number, value in enumerate(output[0].tolist()[:10]):
        yield f"{key}|{number}", repr(value)


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the raw bytes of tensors, by their names in order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of all elements together."""
    return math.sqrt(sum(float((tensor.double() ** 2).sum()) for tensor in tensors))


def _canonical(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)
