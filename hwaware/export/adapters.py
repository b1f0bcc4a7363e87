"""Adapters of a network in a file of their own, beside ``model.safetensors``, which has them merged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.nn.adapters import adapter_state, adapters, split_adapters
from hwaware.results.files import replacing

#: The file's name.
ADAPTERS = "adapters.safetensors"


def write_adapters(network: nn.Module, path: Path) -> dict[str, Any]:
    """Writes a network's adapters, all or nothing.

    Returns:
        What the header of the merged weights says of them: their ``gain``, and the file's ``sha256``.
    """
    from safetensors.torch import save

    data = save({key: value.cpu().contiguous() for key, value in adapter_state(network).items()}, {"format": "pt"})
    with replacing(path) as file:
        file.write(data)
    _, first = next(iter(adapters(network).values()))
    return {"gain": first.gain, "sha256": hashlib.sha256(data).hexdigest()}


def read_adapters(network: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Takes adapters out of a digital network's merged weights, and puts them beside its layers.

    Args:
        network: with the weights that the header is of.
        path: of the file.
        about: what :func:`write_adapters` gave.

    Raises:
        UserError: the file is missing, or is another run's.
    """
    from safetensors.torch import load

    if not path.is_file():
        raise UserError(
            f"there are no adapters '{path}', which the weights beside it hold: keep the two files together. "
            "The merged weights alone are given as --model.weights."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise UserError(f"'{path}' is not of the weights beside it: the two files are of different runs.")
    split_adapters(network, load(data), about["gain"])
