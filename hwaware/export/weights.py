"""The two files of a result, and reading any file of weights for what it is.

``*.ckpt`` resumes a run: latent weights, optimiser, hardware configuration. ``model.safetensors`` is the result:
*effective* weights under the network's own keys, which plain timm loads; its header says what hardware they are for.
Adapters are merged into them, and lie in ``adapters.safetensors`` for whoever puts the rest into cells.
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
    """Writes the task's effective weights (:func:`write_weights`), and returns the path."""
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
    """Writes effective weights as safetensors, all or nothing, and returns the path.

    Header metadata ``hwaware`` is JSON: network, hardware (of each layer; null for a digital network), versions, and
    ``about``: the ranges of the layers' converters, which adapters the weights hold, and how images were prepared where
    that is not as timm's entry for the network has it; what there is of these.
    """
    from safetensors.torch import save

    path = Path(path)
    versions = {package: version(package) for package in ("hwaware", "torch", "timm", "transformers")}
    header = {"network": network, "hardware": hardware, "versions": versions}
    header |= about or {}
    state = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}  # safetensors refuses ties
    data = save(state, {"format": "pt", _HEADER_KEY: json.dumps(header, sort_keys=True)})
    with replacing(path) as file:
        file.write(data)
    return path


def read_header(path: str | Path) -> dict[str, Any] | None:
    """The header that :func:`save_weights` wrote; None for weights from elsewhere.

    Raises:
        UserError: the file is missing, cut short, or no safetensors file in spite of its name.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no weights file '{path}'. {nearest_path(path)}".rstrip())
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
    """The hardware that a file's weights were finetuned for, as :func:`write_weights` has it; None for none.

    Raises:
        UserError: see :func:`load_weights`.
    """
    if (checkpoint := _of_a_run(path)) is not None:
        return checkpoint[CHECKPOINT_KEY]["hardware"]
    header = read_header(weights_file(path))
    return header and header["hardware"]


def finetuned_for(path: str | Path) -> Placement | None:
    """The placement that a file's weights were finetuned for; None for none, and for a law that is not known here."""
    plain = hardware_of(path)
    try:
        return placement_from_plain(plain) if plain else None
    except UserError:  # a law of one's own whose module is not imported: weights are loaded without it all the same
        return None


def load_weights(task: HardwareAwareTask, path: str | Path) -> tuple[str, nn.Module]:
    """The digital network with the weights of any file: a run's ``.ckpt``, its ``model.safetensors``, plain weights,
    or another trainer's checkpoint.

    A folder and ``hf-hub:USER/NAME`` stand for their ``model.safetensors``.

    Returns:
        ``finetuned`` for weights trained for hardware, else ``base``; and the network, with effective weights.

    Raises:
        UserError: the file is missing, damaged, unsafe to load, or of another network.
    """
    if (checkpoint := _of_a_run(path)) is not None:
        return _load_checkpoint(task, path, checkpoint)
    path = weights_file(path)
    header = read_header(path)
    if header is not None and header["network"] != task.network_name:
        raise UserError(f"'{path}' holds weights of {header['network']}, the recipe's network is {task.network_name}.")
    network = task.build_network(str(path))
    if header is not None and header["adapters"]:
        read_adapters(network, path.with_name(ADAPTERS), header["adapters"])
    Measured(ranges=header["ranges"] if header is not None else {}).give(network)
    return ("finetuned" if header is not None and header["hardware"] else "base"), network


#: What a checkpoint of a run has, and what it needs beside to go on from.
_PARTS = {"state_dict": dict, CHECKPOINT_KEY: dict}
_TO_RESUME: dict[str, Any] = {
    **{"loops": dict, "optimizer_states": list, "lr_schedulers": list, "epoch": int, "global_step": int},
    **{"callbacks": dict, "pytorch-lightning_version": str},
}


def read_checkpoint(path: str | Path, to_resume: bool = False) -> dict[str, Any]:
    """A run's ``.ckpt``, loaded without running code from it.

    Args:
        path: of the file.
        to_resume: whether it has to hold all that a run goes on from, not only the network.

    Raises:
        UserError: the file is missing, damaged, unsafe to load, no checkpoint of a run, or lacks a part.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint '{path}'. {nearest_path(path)}".rstrip())
    checkpoint = None if path.suffix == ".safetensors" else read_torch(path)  # some versions of torch read both
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint:
        raise UserError(
            f"'{path}' is no checkpoint of a run of this package, so that nothing can go on from it. Weights, also "
            "those in another trainer's checkpoint, are given as --weights or --model.weights."
        )
    for part, kind in (_PARTS | _TO_RESUME if to_resume else _PARTS).items():
        if not isinstance(checkpoint.get(part), kind):
            use = ": a run can't go on from it; its weights can be given as --weights" if part in _TO_RESUME else ""
            raise UserError(f"checkpoint '{path}' has no '{part}'{use}.")
    if to_resume and not (checkpoint["optimizer_states"] and "fit_loop" in checkpoint["loops"]):
        raise UserError(f"checkpoint '{path}' has nothing in 'optimizer_states' or 'loops': a run can't go on from it.")
    saved = checkpoint[CHECKPOINT_KEY]
    if not {"network", "hardware", "retention_weight"} <= saved.keys():
        raise UserError(f"checkpoint '{path}' does not say what it is of: was it edited?")
    return checkpoint


def preprocessing_of(path: str | Path) -> dict[str, Any]:
    """How images were prepared for a file's weights, where that is not as timm's entry for the network has it."""
    if (checkpoint := _of_a_run(path)) is not None:
        return plain_config(checkpoint[CHECKPOINT_KEY].get("preprocessing", {}))
    header = read_header(weights_file(path))
    return header["preprocessing"] if header else {}


def _of_a_run(path: str | Path) -> dict[str, Any] | None:
    """A run's ``.ckpt``; None for other files, another trainer's ``.ckpt`` among them."""
    if Path(path).suffix != ".ckpt":
        return None
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint '{path}'. {nearest_path(path)}".rstrip())
    checkpoint = read_torch(Path(path))
    return checkpoint if isinstance(checkpoint, dict) and CHECKPOINT_KEY in checkpoint else None


def _load_checkpoint(task: HardwareAwareTask, path: str | Path, checkpoint: dict[str, Any]) -> tuple[str, nn.Module]:
    saved = checkpoint[CHECKPOINT_KEY]
    if saved["network"] != task.network_name:
        raise UserError(f"'{path}' is a run of {saved['network']}, the recipe's network is {task.network_name}.")
    network = to_digital(copy.deepcopy(task.network))
    hardware = saved["hardware"]
    if hardware:  # of the run, which need not be the recipe's: the latents mean something under that one only
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
