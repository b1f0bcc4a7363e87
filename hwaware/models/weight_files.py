"""Files of weights: which of a checkpoint's tables are meant, read without running anything that a file names."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import re
import types
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from hwaware.errors import UserError, nearest, nearest_path
from hwaware.models.hub import weights_file

try:
    from numpy._core import multiarray
except ImportError:  # NumPy 1
    from numpy.core import multiarray  # type: ignore[no-redef]

#: Where a run's ``.ckpt`` keeps what this package adds to it.
CHECKPOINT_KEY = "hwaware"

#: Tables of a checkpoint, the one to take before the others. Averaged weights come first, as in timm's own loader.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema")
_PREFERRED = (*_AVERAGED, "state_dict", "model_state_dict", "model", "params")

#: Settings and figures that trainers keep beside the weights: types that hold values and do nothing.
_HARMLESS = [
    *(argparse.Namespace, types.SimpleNamespace, datetime.datetime, datetime.timedelta, datetime.timezone),
    *((pathlib.PurePath, f"pathlib.{kind}") for kind in ("PosixPath", "PurePosixPath", "WindowsPath")),
    *(np.dtype, np.ndarray),
    *(
        (getattr(multiarray, one), f"numpy.{core}.multiarray.{one}")  # numpy 2 and 1
        for one in ("scalar", "_reconstruct")
        for core in ("_core", "core")
    ),
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
]


def read_weights(file: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file or of a torch file, floating ones as float32.

    A folder and ``hf-hub:USER/NAME`` stand for their ``model.safetensors``. What ``torch.compile`` puts into keys is
    taken off.

    Args:
        file: of weights, or the checkpoint of a trainer.
        key: the checkpoint's table to take; None: the averaged weights, where there are some, else the usual name. A
            warning says which of several it was.

    Raises:
        UserError: the file is missing, cut short, unsafe to load, or something else than weights; or has no such key.
    """
    path = weights_file(file)
    if not path.is_file():
        raise UserError(f"there is no weights file '{path}'. {nearest_path(path)}".rstrip())
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if isinstance(content, dict) and CHECKPOINT_KEY in content:
        raise UserError(
            f"{path} is the checkpoint of a run, whose weights are not yet the network's: give the run's "
            "model.safetensors, or this file as --ckpt_path."
        )
    state = _chosen(path, dict(_tables(content)), key)
    return {k.replace("_orig_mod.", ""): v.float() if v.is_floating_point() else v for k, v in state.items()}


def read_torch(path: Path) -> Any:
    """What a torch file holds: tensors, plain values, and objects of a few types that do nothing.

    Raises:
        UserError: it is cut short, or has an object of another type, which could run code.
    """
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path} cannot be loaded safely: it is damaged or holds Python objects beside tensors"
            f"{f' ({found[1]})' if found else ''}.\nSave its state_dict as .safetensors and give that file."
        ) from error
    except Exception as error:  # zip, end of file, key, value errors: whatever a damaged file provokes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is cut short or not a torch file ({reason})") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is cut short or not a safetensors file ({error})") from error


def _tables(content: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Tables of named tensors in what a file holds, and in the tables in it, by their names: ``""``, ``ema.module``."""
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield name, content
    elif depth < 2:
        for key, value in content.items():
            yield from _tables(value, f"{name}.{key}" if name else key, depth + 1)


def _chosen(path: Path, tables: dict[str, dict[str, Tensor]], key: str | None) -> dict[str, Tensor]:
    if not tables:
        raise UserError(f"{path} does not hold a state_dict (a table of named tensors)")
    if key is not None:
        if key not in tables or "" in tables:
            have = nearest(key, tables) if "" not in tables else "It is one table of tensors: leave weights_key out."
            raise UserError(f"weights_key: {path} has no table of weights '{key}'. {have}")
        return tables[key]
    if len(tables) == 1:
        return next(iter(tables.values()))
    usual = [name for wanted in _PREFERRED for name in tables if name.partition(".")[0] == wanted]
    if not usual or (len(usual) > 1 and usual[0].partition(".")[0] == usual[1].partition(".")[0]):
        raise UserError(f"{path} holds several tables of weights: set model.weights_key to {' or '.join(tables)}.")
    averaged = " (averaged over training)" if usual[0].partition(".")[0] in _AVERAGED else ""
    rank_zero_warn(
        f"{path} holds weights as {', '.join(tables)}: {usual[0]}{averaged} is taken; model.weights_key chooses."
    )
    return tables[usual[0]]
