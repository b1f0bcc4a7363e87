"""Reads weight files: selects a table of a checkpoint, and never executes anything that a file contains."""

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

#: The key under which a run's ``.ckpt`` stores the data of this package.
CHECKPOINT_KEY = "hwaware"

#: Tables of a checkpoint, in order of preference. Averaged weights come first, as in timm's loader.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema")
_PREFERRED = (*_AVERAGED, "state_dict", "model_state_dict", "model", "params")

#: Types for settings and figures that trainers store beside weights: they hold values and run no code.
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
    """Reads the tensors of a ``.safetensors`` or torch file; floating-point tensors become float32.

    A folder or ``hf-hub:USER/NAME`` stands for its ``model.safetensors``. The prefix of ``torch.compile`` is removed
    from keys.

    Args:
        file: a weight file, or the checkpoint of a trainer.
        key: the table of the checkpoint to load; None: averaged weights if there are any, otherwise the usual table. If
            there are several, a warning names the one that is used.

    Raises:
        UserError: the file is missing, truncated, unsafe to load, or does not contain weights; or it has no such key.
    """
    path = weights_file(file)
    if not path.is_file():
        raise UserError(f"there is no weights file '{path}'. {nearest_path(path)}".rstrip())
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if isinstance(content, dict) and CHECKPOINT_KEY in content:
        raise UserError(
            f"{path} is the checkpoint of a run with latent weights, not the network's weights: give the "
            "run's model.safetensors, or this file as --ckpt_path."
        )
    state = _chosen(path, dict(_tables(content)), key)
    return {k.replace("_orig_mod.", ""): v.float() if v.is_floating_point() else v for k, v in state.items()}


def read_torch(path: Path) -> Any:
    """Reads a torch file: tensors, plain values, and objects of a few harmless types.

    Raises:
        UserError: the file is truncated, or has an object of another type, which could run code.
    """
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise UserError(
            f"{path} can't be loaded safely: it is damaged or contains Python objects besides tensors"
            f"{f' ({found[1]})' if found else ''}.\nSave its state_dict as .safetensors and give that file."
        ) from error
    except Exception as error:  # a damaged file may raise anything: zip, end of file, key or value errors
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
    """All tables of named tensors in a file, nested ones included, by name: ``""``, ``ema.module``."""
    if not isinstance(content, dict) or not content or not all(isinstance(key, str) for key in content):
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        yield name, content
    elif depth < 2:
        for key, value in content.items():
            yield from _tables(value, f"{name}.{key}" if name else key, depth + 1)


def _chosen(path: Path, tables: dict[str, dict[str, Tensor]], key: str | None) -> dict[str, Tensor]:
    if not tables:
        raise UserError(f"{path} does not contain a state_dict (a table of named tensors)")
    if key is not None:
        if key not in tables or "" in tables:
            have = nearest(key, tables) if "" not in tables else "It is one table of tensors: leave weights_key out."
            raise UserError(f"weights_key: {path} has no table of weights '{key}'. {have}")
        return tables[key]
    if len(tables) == 1:
        return next(iter(tables.values()))
    usual = [name for wanted in _PREFERRED for name in tables if name.partition(".")[0] == wanted]
    if not usual or (len(usual) > 1 and usual[0].partition(".")[0] == usual[1].partition(".")[0]):
        raise UserError(f"{path} contains several tables of weights: set model.weights_key to {' or '.join(tables)}.")
    averaged = " (averaged over training)" if usual[0].partition(".")[0] in _AVERAGED else ""
    rank_zero_warn(
        f"{path} contains the weights {', '.join(tables)}: {usual[0]}{averaged} is used; model.weights_key selects."
    )
    return tables[usual[0]]
