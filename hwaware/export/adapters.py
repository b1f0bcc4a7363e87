"""A separate file with a network's adapters, beside ``model.safetensors``, which has them merged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hwaware.errors import UserError
from hwaware.nn.adapters import adapter_state, adapters, split_adapters
from hwaware.results.files import replacing

#: Name of the file.
ADAPTERS = "adapters.safetensors"


def write_adapters(network: nn.Module, path: Path) -> dict[str, Any]:
    """Writes a network's adapters, atomically.

    Returns:
        The entry for the header of the merged weights: the adapters' ``gain`` and the file's ``sha256``.
    """
    from safetensors.torch import save

    data = save({key: value.cpu().contiguous() for key, value in adapter_state(network).items()}, {"format": "pt"})
    with replacing(path) as file:
        file.write(data)
    _, first = next(iter(adapters(network).values()))
    return {"gain": first.gain, "sha256": hashlib.sha256(data).hexdigest()}


def read_adapters(network: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Splits adapters from a digital network's merged weights, and adds them beside its layers.

    Args:
        network: the network with the merged weights.
        path: path of the adapters' file.
        about: the output of :func:`write_adapters`, from the header of the weights.

    Raises:
        UserError: the file is missing, or belongs to another run.
    """
    from safetensors.torch import load

    if not path.is_file():
        raise UserError(
            f"there is no file '{path}' with the adapters of the weights beside it: keep the two files together. "
            "To use the merged weights alone, give --model.weights."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise UserError(f"'{path}' does not belong to the weights beside it: the two files are from different runs.")
    split_adapters(network, load(data), about["gain"])
