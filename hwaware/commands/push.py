"""``hwaware push``: shares the network of a run, on the Hugging Face hub or as a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from hwaware.callbacks.drift import UNTRAINED
from hwaware.commands.steps import the_one
from hwaware.errors import UserError
from hwaware.export.hub import check_hub, finetuned_for, push_folder, save_pretrained
from hwaware.export.weights import load_weights, preprocessing_of
from hwaware.models.hub import WEIGHTS, weights_file
from hwaware.nn.adapters import refuse_adapters
from hwaware.results.csv import read_rows
from hwaware.tasks import HardwareAwareTask, ImageClassification

_ROWS = "rows.csv"


def run(
    task: HardwareAwareTask,
    weights: str | None = None,
    ckpt_path: str | None = None,
    repo: str | None = None,
    out: str | None = None,
    rows: str | None = None,
    license: str | None = None,
) -> None:
    """Shares a finetuned network on the Hugging Face hub, or writes the same folder locally.

    Args:
        task: the task of the network.
        weights: a run's ``model.safetensors``, or the run's folder.
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        repo: repository ``USER/NAME`` on the hub; it is created, publicly, if it does not exist.
        out: a folder to write, which must not exist yet.
        rows: measurements for the model card; None: ``rows.csv`` of the run, if there is one.
        license: license of the weights, by its name on the hub (``apache-2.0``).
    """
    file = the_one(weights, ckpt_path)
    if not file:
        raise UserError("push: give --weights: a run's model.safetensors, or the run's folder.")
    hand_over(task, file, repo, out, rows, license)


def hand_over(
    task: HardwareAwareTask, weights: str, repo: str | None, out: str | None, rows: str | None, license: str | None
) -> None:
    """Writes the folder of a finetuned network (:mod:`hwaware.export.hub`), and uploads it if ``repo`` is given.

    Raises:
        UserError: neither ``repo`` nor ``out`` is given; the weights or rows belong to another network, or not to a
            finetuned one; the hub can't be reached, or there is no valid token. Nothing is written then.
    """
    target = out or repo
    if not target:
        raise UserError("push: give --repo USER/NAME on the Hugging Face hub, or --out FOLDER.")
    if not isinstance(task, ImageClassification):
        raise UserError(
            f"push: {type(task).__name__} has no timm network, the only kind that push supports."
            " The run's own folder loads in transformers as it is."
        )
    hardware = finetuned_for(weights)
    network = load_weights(task, weights)[1]
    refuse_adapters(network, "push")
    file = Path(rows) if rows else _rows_of(task, network, weights_file(weights))
    if rows and not file.is_file():
        raise UserError(f"push: there is no file of rows '{file}'.")
    measured = read_rows(file) if file.is_file() else []
    if other := {row.model for row in measured} - {task.network_name}:
        raise UserError(f"push: '{file}' has rows of {other.pop()}; the recipe's network is {task.network_name}.")
    if measured and all(row.network in UNTRAINED for row in measured):
        reason = f"push: '{file}' has no rows of a finetuned network: run hwaware drift --weights {weights} first."
        if rows:
            raise UserError(reason)
        print(f"{reason} The model card has no table.", flush=True)
        measured = []
    # The name on the hub is known for weights from the hub; for a local file, only a tag tells their origin.
    about = getattr(network, "pretrained_cfg", {})
    base = about.get("hf_hub_id") if task.pretrained or "." in task.network_name else None
    seen = preprocessing_of(weights)
    if repo:
        check_hub(repo)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(out) if out else Path(scratch, target.rpartition("/")[2])
        save_pretrained(folder, network, task.network_name, hardware, measured, repo, license, base, seen)
        if out:
            print(f"folder: {folder}", flush=True)
        if repo:
            print(f"on the hub: {push_folder(folder, repo)}", flush=True)


def _rows_of(task: HardwareAwareTask, network: nn.Module, file: Path) -> Path:
    """The path of the rows of a weight file: beside it or, for a run's final checkpoint, in the run's folder."""
    if file.suffix != ".ckpt":
        return file.with_name(_ROWS)
    run = file.parent.parent
    if not (run / WEIGHTS).is_file() or not (run / _ROWS).is_file():
        return run / _ROWS
    ended = load_weights(task, run / WEIGHTS)[1].state_dict()
    if all(torch.equal(value, ended[key]) for key, value in network.state_dict().items()):
        return run / _ROWS
    print(
        f"'{run / _ROWS}' belongs to the run's {WEIGHTS}, not to '{file.name}', which differs: the model card has no "
        f"table (use --weights {run} to get one).",
        flush=True,
    )
    return file.with_name(_ROWS)  # which does not exist
