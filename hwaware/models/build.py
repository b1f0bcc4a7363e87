"""Build a classifier by name, with weights from the hub or from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from hwaware.errors import UserError, nearest
from hwaware.models.hub import HUB
from hwaware.models.keys import adapted_by_timm, misfit, with_own_keys
from hwaware.models.weight_files import read_weights
from hwaware.offline import no_retries_without_network


def build_model(
    name: str,
    *,
    weights: str | None = None,
    weights_key: str | None = None,
    pretrained: bool = False,
    num_classes: int | None = None,
    new_head: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Any timm classifier, in float32.

    Args:
        name: timm's name, with or without the tag of its weights (``resnet18.tv_in1k``); ``resnet20_cifar`` and the
            other networks of this package are registered there too.
        weights: a local ``.safetensors`` or ``.pth`` file, a trainer's checkpoint, or what has a ``model.safetensors``
            (a folder, ``hf-hub:USER/NAME``), whose tensors must fit; takes precedence over ``pretrained``. Half
            precision is upcast.
        weights_key: which of a checkpoint's tables to take; see :func:`~hwaware.models.weight_files.read_weights`.
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
        load_weights(model, weights, name, new_head and num_classes is not None, weights_key)
    return model


def load_weights(
    model: nn.Module, file: str | Path, name: str = "the network", new_head: bool = False, key: str | None = None
) -> None:
    """Copy the tensors of ``file`` into ``model``; all must be there, fit in shape, and be finite.

    One prefix that is common to all keys is taken off where they fit then, as of other trainers' checkpoints. Tensors
    that timm would rename or resample for its network, for another input size, are. With ``new_head`` a classifier of
    another size keeps what it has. Warnings say so.

    Raises:
        UserError: see :func:`build_model`.
    """
    state = with_own_keys(model, read_weights(file, key))
    left = new_head and _leave_head(model, state)
    if (reason := misfit(model, state)) is not None:
        state = adapted_by_timm(model, state) or state
        left = (new_head and _leave_head(model, state)) or left
        if misfit(model, state) is not None:
            raise UserError(f"{file} does not hold weights of {name}: {reason}")
        rank_zero_warn(f"{file} is adapted to {name} as timm does it: tensors are renamed, or resampled to its size.")
    for tensor_name, tensor in state.items():
        _check_finite(tensor_name, tensor, str(file))
    model.head_is_new = bool(left)  # type: ignore[assignment]  # a plain attribute; torch's types know modules only
    if left:
        rank_zero_warn(f"{file} is for another number of classes: {name} starts with a new, untrained head")
    # not strict only because of the batch counters; everything else was compared above
    model.load_state_dict(state, strict=False)


def _leave_head(model: Any, state: dict[str, Tensor]) -> bool:
    """Puts the network's own head into ``state`` where the file's is of another size; whether it did."""
    own = model.state_dict()
    named = model.pretrained_cfg.get("classifier") or ()  # several where there are two, as in distilled DeiT
    prefixes = tuple(f"{head}." for head in ([named] if isinstance(named, str) else named))
    other = [k for k in own if k.startswith(prefixes) and k in state and state[k].shape != own[k].shape]
    if other:
        state.update({key: own[key] for key in own if key.startswith(prefixes)})
    return bool(other)


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
