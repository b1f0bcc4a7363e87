"""Build a classifier by name, with weights from the hub or from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from timm.models import clean_state_dict
from torch import Tensor, nn

from hwaware.errors import UserError, nearest
from hwaware.models.hub import HUB, weights_file
from hwaware.offline import no_retries_without_network


def build_model(
    name: str,
    *,
    weights: str | None = None,
    pretrained: bool = False,
    num_classes: int | None = None,
    new_head: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Any timm classifier, in float32.

    Args:
        name: timm's name, with or without the tag of its weights (``resnet18.tv_in1k``); ``resnet20_cifar`` and the
            other networks of this package are registered there too.
        weights: a local ``.safetensors`` or ``.pth`` file, or what has a ``model.safetensors`` (a folder,
            ``hf-hub:USER/NAME``), whose tensors must fit exactly; takes precedence over ``pretrained``. Half precision
            is upcast.
        new_head: where ``weights`` has another number of classes than ``num_classes``, leave the head as it is born
            rather than refuse.
        pretrained: take the weights that timm names on the hub. With another ``num_classes`` the head is new.
        num_classes: outputs of the classifier (None: the network's own number).
        kwargs: further arguments of the network's constructor.

    Raises:
        UserError: unknown name; weights that are missing, unreadable, unsafe, of another network, or not finite; hub
            weights without a network; arguments which the network does not take.
    """
    _check_name(name, pretrained and weights is None)
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    try:
        if pretrained and weights is None:
            return _from_hub(name, **kwargs)
        model = timm.create_model(name, pretrained=False, **kwargs)
    except TypeError as error:
        raise UserError(f"{name} does not take these arguments: {error}") from error
    if weights is not None:
        load_weights(model, weights, name, new_head=new_head and num_classes is not None)
    return model


def load_weights(model: nn.Module, file: str | Path, name: str = "the network", new_head: bool = False) -> None:
    """Copy the tensors of ``file`` into ``model``; all must be there, fit in shape, and be finite.

    With ``new_head`` a classifier of another size keeps what it has, and a warning says so.

    Raises:
        UserError: see :func:`build_model`.
    """
    state = read_weights(file)
    own = model.state_dict()
    left = new_head and _leave_head(model, state, own)
    # checkpoints older than torch 0.4.1, and many since, carry no batch counters; they are not used in inference
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    misshaped = [key for key in own if key in state and state[key].shape != own[key].shape]
    if missing or unexpected or misshaped:
        if misshaped:
            key = misshaped[0]
            first = f"{key} is {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the network"
        else:
            first = f"{missing[0]} is missing" if missing else f"{unexpected[0]} is unexpected"
        raise UserError(
            f"{file} does not hold weights of {name}: {len(missing)} tensors missing, {len(unexpected)} unexpected, "
            f"{len(misshaped)} of another shape.\nThe first: {first}."
        )
    for key, tensor in state.items():
        _check_finite(key, tensor, str(file))
    model.head_is_new = bool(left)  # type: ignore[assignment]  # a plain attribute; torch's types know modules only
    if left:
        rank_zero_warn(f"{file} is for another number of classes: {name} starts with a new, untrained head")
    # not strict only because of the batch counters; everything else was compared above
    model.load_state_dict(state, strict=False)


def _leave_head(model: Any, state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    """Puts the network's own head into ``state`` where the file's is of another size; whether it did."""
    named = model.pretrained_cfg.get("classifier") or ()  # several where there are two, as in distilled DeiT
    prefixes = tuple(f"{head}." for head in ([named] if isinstance(named, str) else named))
    other = [k for k in own if k.startswith(prefixes) and k in state and state[k].shape != own[k].shape]
    if other:
        state.update({key: own[key] for key in own if key.startswith(prefixes)})
    return bool(other)


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file or of a torch file without Python objects, floating ones as float32.

    A folder and ``hf-hub:USER/NAME`` stand for their ``model.safetensors``.

    Raises:
        UserError: the file is missing, cut short, unsafe to load, or something else than weights.
    """
    path = weights_file(file)
    if not path.is_file():
        raise UserError(f"no such weights file: {path}")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return {k: v.float() if v.is_floating_point() else v for k, v in clean_state_dict(state).items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is cut short or not a safetensors file ({error})") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{path} cannot be loaded safely: it is damaged or holds Python objects beside tensors.\n"
            "Save its state_dict as .safetensors and give that file."
        ) from error
    except Exception as error:  # zip, end of file, key, value errors: whatever a damaged file provokes
        raise UserError(f"{path} is cut short or not a torch file ({_first_line(error)})") from error
    if isinstance(state, dict) and "pytorch-lightning_version" in state:
        raise UserError(f"{path} is the checkpoint of a run, not plain weights: give it as --ckpt_path")
    for wrapper in ("state_dict", "model"):  # as timm and many training scripts wrap it
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} does not hold a state_dict (a table of named tensors)")
    return state


def _check_name(name: str, pretrained: bool) -> None:
    if name.startswith((HUB, "hf_hub:", "local-dir:")):
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UserError(f"unknown network '{name}'. {nearest(base, timm.list_models())}")
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(f"{base} has no weights called '{tag}'. {nearest(tag, tags)}".rstrip())
    if pretrained and not timm.models.is_model_pretrained(base) and not tags:
        raise UserError(f"there are no weights to download for '{name}'; give a local file: --model.weights FILE")


def _from_hub(name: str, **kwargs: Any) -> nn.Module:
    try:
        with no_retries_without_network():
            model = timm.create_model(name, pretrained=True, **kwargs)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"cannot get the pretrained weights of '{name}': {_first_line(error)}\n"
            "Without a network, give a local file: --model.weights FILE"
        ) from error
    for key, tensor in model.state_dict().items():
        _check_finite(key, tensor, f"the hub's weights of {name}")
    return model


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _check_finite(key: str, tensor: Tensor, origin: str) -> None:
    if tensor.is_floating_point() and not tensor.isfinite().all():
        bad = int((~tensor.isfinite()).sum())
        raise UserError(f"{origin}: tensor {key} has {bad} values that are NaN or infinite")
