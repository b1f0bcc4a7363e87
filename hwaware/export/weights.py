"""The two files of a result, and reading of any weight file.

``*.ckpt`` resumes a run: latent weights, optimiser, hardware. ``model.safetensors`` is the result: *effective* weights
under the network's own keys, which plain timm can load; its header names their hardware. Adapters are merged into these
weights, and also stored in ``adapters.safetensors``, which is needed to put only the other weights into cells.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hwaware.errors import UserError, nearest_path
from hwaware.export.adapters import ADAPTERS, read_adapters, write_adapters
from hwaware.hardware import Placement, placement_from_plain
from hwaware.models.hub import weights_file
from hwaware.models.inputs import plain_config
from hwaware.models.weight_files import CHECKPOINT_KEY, read_torch
from hwaware.nn import Measured, adapters, convert, effective_state_dict, merge_adapters, to_digital
from hwaware.results.files import replacing
from hwaware.tasks import HardwareAwareTask

_HEADER_KEY = "hwaware"


def save_weights(task: HardwareAwareTask, path: str | Path) -> Path:
    """Writes the task's effective weights (:func:`write_weights`); returns the path."""
    path, network, ranges = Path(path), task.network, Measured.of(task.network).ranges
    about: dict[str, Any] = {"ranges": dict(ranges)} if ranges else {}
    if task.preprocessing:
        about["preprocessing"] = dict(task.preprocessing)
    if adapters(network):
        network = to_digital(copy.deepcopy(network))
        about["adapters"] = write_adapters(network, path.with_name(ADAPTERS))
        state = merge_adapters(network).state_dict()
    else:
        state = effective_state_dict(network)
    return write_weights(path, state, task.network_name, task.hardware_plain, about)


def write_weights(
    path: str | Path,
    state: Mapping[str, Tensor],
    network: str,
    hardware: dict[str, Any] | None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Writes effective weights as safetensors, atomically; returns the path.

    The header metadata ``hwaware`` is JSON: network, hardware (of each layer; null for a digital network), versions,
    and ``about``: the ranges of converters, the merged adapters, and the preprocessing of images if it differs from
    timm's entry for the network, as far as they exist.
    """
    from safetensors.torch import save

    path = Path(path)
    versions = {package: version(package) for package in ("hwaware", "torch", "timm", "transformers")}
    header = {"network": network, "hardware": hardware, "versions": versions}
    header |= about or {}
    state = {
        key: value.detach().cpu().contiguous().clone() for key, value in state.items()
    }  # safetensors refuses tied tensors
    data = save(state, {"format": "pt", _HEADER_KEY: json.dumps(header, sort_keys=True)})
    with replacing(path) as file:
        file.write(data)
    return path


def read_header(path: str | Path) -> dict[str, Any] | None:
    """Reads the header of :func:`save_weights`; None for other weight files.

    Raises:
        UserError: the file is missing, cut short, or not a safetensors file despite its name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no weight file '{path}'. {nearest_path(path)}".rstrip())
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER_KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is cut short or not a safetensors file ({error}).") from None
    if text is None:
        return None
    try:
        header = json.loads(text)
        return {
            **{key: header[key] for key in ("network", "hardware")},
            "ranges": header.get("ranges", {}),
            "adapters": header.get("adapters"),
            "preprocessing": plain_config(header.get("preprocessing", {})),
        }
    except (ValueError, TypeError, KeyError):
        raise UserError(f"the header of '{path}' is not what this package writes; was it edited?") from None


def hardware_of(path: str | Path) -> dict[str, Any] | None:
    """The hardware that a file's weights were finetuned for, in the form of :func:`write_weights`; None for none.

    Raises:
        UserError: see :func:`load_weights`.
    """
    if (checkpoint := _of_a_run(path)) is not None:
        return checkpoint[CHECKPOINT_KEY]["hardware"]
    header = read_header(weights_file(path))
    return header and header["hardware"]


def finetuned_for(path: str | Path) -> Placement | None:
    """The placement that a file's weights were finetuned for; None for none, and for a law that is unknown here."""
    plain = hardware_of(path)
    try:
        return placement_from_plain(plain) if plain else None
    except UserError:  # a custom law whose module is not imported; the weights can be loaded without it
        return None


def load_weights(task: HardwareAwareTask, path: str | Path) -> tuple[str, nn.Module]:
    """Loads the weights of any file into the digital network: a run's ``.ckpt`` or ``model.safetensors``, plain
    weights, or another trainer's checkpoint.

    A folder or ``hf-hub:USER/NAME`` stands for its ``model.safetensors``.

    Returns:
        ``finetuned`` for weights trained for hardware, otherwise ``base``; and the network with effective weights.

    Raises:
        UserError: the file is missing, damaged, unsafe to load, or belongs to another network.
    """
    if (checkpoint := _of_a_run(path)) is not None:
        return _load_checkpoint(task, path, checkpoint)
    path = weights_file(path)
    header = read_header(path)
    if header is not None and header["network"] != task.network_name:
        raise UserError(f"'{path}' has weights of {header['network']}; the recipe's network is {task.network_name}.")
    network = task.build_network(str(path))
    if header is not None and header["adapters"]:
        read_adapters(network, path.with_name(ADAPTERS), header["adapters"])
    Measured(ranges=header["ranges"] if header is not None else {}).give(network)
    return ("finetuned" if header is not None and header["hardware"] else "base"), network


#: Parts of a run's checkpoint, and the further parts that are needed to resume.
_PARTS = {"state_dict": dict, CHECKPOINT_KEY: dict}
_TO_RESUME: dict[str, Any] = {
    **{"loops": dict, "optimizer_states": list, "lr_schedulers": list, "epoch": int, "global_step": int},
    **{"callbacks": dict, "pytorch-lightning_version": str},
}


def read_checkpoint(path: str | Path, to_resume: bool = False) -> dict[str, Any]:
    """Reads a run's ``.ckpt`` without executing code from it.

    Args:
        path: path of the file.
        to_resume: whether it must contain everything for resuming the run, not only the network.

    Raises:
        UserError: the file is missing, damaged, unsafe to load, not a checkpoint of a run, or incomplete.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint '{path}'. {nearest_path(path)}".rstrip())
    checkpoint = None if path.suffix == ".safetensors" else read_torch(path)  # some versions of torch read both
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise UserError(
            f"'{path}' is not the checkpoint of a run of this package, so no run can resume from it. Give weights, "
            "also those in another trainer's checkpoint, as --weights or --model.weights."
        )
    for part, kind in (_PARTS | _TO_RESUME if to_resume else _PARTS).items():
        if not isinstance(checkpoint.get(part), kind):
            use = ": no run can resume from it; give its weights as --weights" if part in _TO_RESUME else ""
            raise UserError(f"checkpoint '{path}' has no '{part}'{use}.")
    if to_resume and not (checkpoint["optimizer_states"] and "fit_loop" in checkpoint["loops"]):
        raise UserError(f"checkpoint '{path}' has nothing in 'optimizer_states' or 'loops': a run can't go on from it.")
    saved = checkpoint[CHECKPOINT_KEY]
    if not {"network", "hardware", "retention_weight"} <= saved.keys():
        raise UserError(f"checkpoint '{path}' does not name its network: was it edited?")
    return checkpoint


def preprocessing_of(path: str | Path) -> dict[str, Any]:
    """The preprocessing of images for a file's weights, if it differs from timm's entry for the network."""
    if (checkpoint := _of_a_run(path)) is not None:
        return plain_config(checkpoint[CHECKPOINT_KEY].get("preprocessing", {}))
    header = read_header(weights_file(path))
    return header["preprocessing"] if header else {}


def _of_a_run(path: str | Path) -> dict[str, Any] | None:
    """Reads a run's ``.ckpt``; None for other files, also for another trainer's ``.ckpt``."""
    if Path(path).suffix != ".ckpt":
        return None
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint '{path}'. {nearest_path(path)}".rstrip())
    checkpoint = read_torch(Path(path))
    return checkpoint if isinstance(checkpoint, dict) and CHECKPOINT_KEY in checkpoint else None


def _load_checkpoint(task: HardwareAwareTask, path: str | Path, checkpoint: dict[str, Any]) -> tuple[str, nn.Module]:
    saved = checkpoint[CHECKPOINT_KEY]
    if saved["network"] != task.network_name:
        raise UserError(f"'{path}' is a run of {saved['network']}; the recipe's network is {task.network_name}.")
    network = to_digital(copy.deepcopy(task.network))
    hardware = saved["hardware"]
    if hardware:  # the run's, not the recipe's: latent weights need it
        convert(network, placement_from_plain(hardware), hardware["corrected"])
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"checkpoint '{path}' does not fit {task.network_name}: {reason}") from None
    Measured(ranges=saved.get("ranges", {})).give(network)
    return ("finetuned" if hardware else "base"), to_digital(network)
