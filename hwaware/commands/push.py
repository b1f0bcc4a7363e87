"""``hwaware push``: a run's network, handed on to the Hugging Face hub or as a folder."""

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
    """Hands a finetuned network on: to the Hugging Face hub, or as the folder that would lie there.

    Args:
        task: whose network it is.
        weights: a run's ``model.safetensors``, or the run's folder.
        ckpt_path: a run's ``.ckpt`` instead; ``last`` is the recipe's latest.
        repo: ``USER/NAME`` on the hub; it is made, publicly, where it is not there yet.
        out: a folder to write, which must not exist yet.
        rows: measurements for the model card; by default ``rows.csv`` of the run, where there is one.
        license: of the weights, by its name on the hub (``apache-2.0``).
    """
    file = the_one(weights, ckpt_path)
    if not file:
        raise UserError("push: give --weights: a run's model.safetensors, or the run's folder.")
    hand_over(task, file, repo, out, rows, license)


def hand_over(
    task: HardwareAwareTask, weights: str, repo: str | None, out: str | None, rows: str | None, license: str | None
) -> None:
    """Writes the folder of a finetuned network (:mod:`hwaware.export.hub`), and uploads it where ``repo`` is given.

    Raises:
        UserError: nowhere to write to; the weights or the rows are of another network, or not of a finetuned one; the
            hub can't be reached, or knows no user here. Nothing is written then.
    """
    target = out or repo
    if not target:
        raise UserError("push: give --repo USER/NAME on the Hugging Face hub, or --out FOLDER.")
    if not isinstance(task, ImageClassification):
        raise UserError(
            f"push: {type(task).__name__} has no network of timm's, which is what is handed on so far."
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
        raise UserError(f"push: '{file}' has rows of {other.pop()}, the recipe's network is {task.network_name}.")
    if measured and all(row.network in UNTRAINED for row in measured):
        reason = f"push: '{file}' has no rows of a finetuned network: age it first (hwaware drift --weights {weights})."
        if rows:
            raise UserError(reason)
        print(f"{reason} The model card has no table.", flush=True)
        measured = []
    # The name is the hub's for its own weights; of a local file, only a tag says where they come from.
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
    """Where the rows of a file's weights are: beside them; of a checkpoint in its run's folder, if the run ended so."""
    if file.suffix != ".ckpt":
        return file.with_name(_ROWS)
    run = file.parent.parent
    if not (run / WEIGHTS).is_file() or not (run / _ROWS).is_file():
        return run / _ROWS
    ended = load_weights(task, run / WEIGHTS)[1].state_dict()
    if all(torch.equal(value, ended[key]) for key, value in network.state_dict().items()):
        return run / _ROWS
    print(
        f"'{run / _ROWS}' is of the run's {WEIGHTS}, not of '{file.name}', which differs: the model card has no table "
        f"(with --weights {run} it has).",
        flush=True,
    )
    return file.with_name(_ROWS)  # where there is none
