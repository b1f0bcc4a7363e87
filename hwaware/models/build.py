"""Builds a classifier by name, with weights from the hub or from a local file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from timm.models import adapt_input_conv
from torch import Tensor, nn

from hwaware.data.contract import MAX_CLASSES
from hwaware.errors import UserError, nearest
from hwaware.models.hub import HUB
from hwaware.models.keys import adapted_by_timm, misfit, with_own_keys
from hwaware.models.weight_files import read_weights
from hwaware.system.offline import no_retries_without_network

#: Before names of networks that are described elsewhere than in timm.
_SOMEWHERE = (HUB, "hf_hub:", "local-dir:")


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
    """Builds any timm classifier, in float32.

    Args:
        name: timm's name, with or without the tag of its weights (``resnet18.tv_in1k``); ``resnet20_cifar`` and the
            other networks of this package are registered in timm too.
        weights: a local ``.safetensors`` or ``.pth`` file, a trainer's checkpoint, or a folder or hub repository
            (``hf-hub:USER/NAME``) with a ``model.safetensors``. Its tensors must fit. It takes precedence over
            ``pretrained``. Half precision is upcast.
        weights_key: which table of a checkpoint to load; see :func:`~hwaware.models.weight_files.read_weights`.
        new_head: if ``weights`` has another number of classes than ``num_classes``, keep a newly initialised head
            instead of raising an error.
        pretrained: load timm's weights from the hub. With another ``num_classes`` the head is new.
        num_classes: number of classes; None: the network's own number.
        kwargs: further arguments of the network's constructor.

    Raises:
        UserError: the name is unknown; weights are missing, unreadable, unsafe, of another network, or not finite; the
            hub can't be reached; the network does not take an argument.
    """
    if num_classes is not None and not 1 <= num_classes <= MAX_CLASSES:
        raise UserError(f"num_classes={num_classes} must lie in [1, {MAX_CLASSES:,}].")
    _check_name(name, pretrained and weights is None)
    made_with = dict(kwargs)
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    try:
        if pretrained and weights is None:
            model = _from_hub(name, **kwargs)
        else:
            with no_retries_without_network():
                model = timm.create_model(name, pretrained=False, **kwargs)
    except UserError:
        raise
    except Exception as error:  # timm raises many kinds of errors for invalid values
        if not made_with and name.startswith(_SOMEWHERE):
            raise UserError(f"cannot get the network '{name}': {_first_line(error)}") from None
        if not made_with:  # not a mistake of the user
            raise
        raise UserError(_refused(name, made_with, error)) from error
    if not hasattr(model, "num_classes"):
        raise UserError(f"{name} is not a classifier: the network has no attribute num_classes.")
    model.made_with = made_with  # type: ignore[assignment]  # a plain attribute, like head_is_new
    if pretrained and weights is None:
        return model
    if weights is not None:
        load_weights(model, weights, name, new_head and num_classes is not None, weights_key)
    return model


def load_weights(
    model: nn.Module, file: str | Path, name: str = "the network", new_head: bool = False, key: str | None = None
) -> None:
    """Copies the tensors of ``file`` into ``model``; all must be present, fit in shape and be finite.

    A prefix common to all keys, as in other trainers' checkpoints, is removed if the keys fit then. Tensors are
    renamed, or resampled to another input size, as timm does for the network. With ``new_head``, a head of another size
    keeps its initialisation. Warnings tell of each of these.

    Raises:
        UserError: see :func:`build_model`.
    """
    state = with_own_keys(model, read_weights(file, key))
    _adapt_channels(model, state, str(file))
    left = new_head and _leave_head(model, state)
    if (reason := misfit(model, state)) is not None:
        state = adapted_by_timm(model, state) or state
        left = (new_head and _leave_head(model, state)) or left
        if misfit(model, state) is not None:
            raise UserError(f"{file} does not contain the weights of {name}: {reason}")
        rank_zero_warn(f"{file} is adapted to {name} by timm: tensors are renamed, or resampled to its input size.")
    for tensor_name, tensor in state.items():
        _check_finite(tensor_name, tensor, str(file))
    model.head_is_new = bool(left)  # type: ignore[assignment]  # a plain attribute; torch's types know modules only
    if left:
        rank_zero_warn(f"{file} has another number of classes: {name} starts with a new, untrained head")
    # Not strict only because of the batch counters; all other keys were compared above.
    model.load_state_dict(state, strict=False)


def _refused(name: str, kwargs: Mapping[str, Any], error: Exception) -> str:
    """Why a network could not be built with its arguments, in words."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        given = ", ".join(f"{key}={value}" for key, value in kwargs.items()) or "its own"
        return f"{name} does not take these arguments ({given}): {_first_line(error)}"
    known = set(kwargs)
    where: dict[str, Any] = {}
    if timm.is_model(base := name.partition(".")[0]):
        where = timm.models.model_entrypoint(base).__globals__
    for one in where.values():  # the networks of the file, one of which is meant
        if isinstance(one, type) and issubclass(one, nn.Module) and one.__module__ == where["__name__"]:
            known |= set(inspect.signature(one).parameters)
    hint = nearest(unknown[1], known - {unknown[1]}) if str(error).partition(".")[0] in where else ""
    return f"{name} does not take the argument '{unknown[1]}'. {hint}".rstrip()


def _adapt_channels(model: Any, state: dict[str, Tensor], file: str) -> None:
    """Adapts weights for RGB images to a network with another number of channels, as timm does with its own."""
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    key, own = f"{first}.weight", model.state_dict()
    if not isinstance(first, str) or key not in state or key not in own or own[key].ndim != 4:
        return
    (out, channels, *size), theirs = own[key].shape, state[key]
    if channels != 3 and tuple(theirs.shape) == (out, 3, *size):
        state[key] = adapt_input_conv(channels, theirs)
        how = "their sum over colours" if channels == 1 else "repeated"
        rank_zero_warn(f"{file} is for images of 3 channels, the network for {channels}: {key} is {how}.")


def _leave_head(model: Any, state: dict[str, Tensor]) -> bool:
    """Replaces the head in ``state`` by the network's own if its size differs; returns whether it did."""
    own = model.state_dict()
    named = model.pretrained_cfg.get("classifier") or ()  # several if there are two heads, as in distilled DeiT
    prefixes = tuple(f"{head}." for head in ([named] if isinstance(named, str) else named))
    other = [k for k in own if k.startswith(prefixes) and k in state and state[k].shape != own[k].shape]
    if other:
        state.update({key: own[key] for key in own if key.startswith(prefixes)})
    return bool(other)


def _check_name(name: str, pretrained: bool) -> None:
    if name.startswith(_SOMEWHERE):
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise UserError(f"unknown network '{name}'. {nearest(base, timm.list_models())}")
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise UserError(f"{base} has no weights called '{tag}'. {nearest(tag, tags)}".rstrip())
    if pretrained and not timm.models.is_model_pretrained(base) and not tags:
        raise UserError(f"there are no weights to download for '{name}': give a local file, --model.weights FILE")


def _from_hub(name: str, **kwargs: Any) -> nn.Module:
    try:
        with no_retries_without_network():
            model = timm.create_model(name, pretrained=True, **kwargs)
    except (OSError, RuntimeError, ValueError) as error:  # the last: a name that can be none
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
