"""Matches the tensors of a file to a network by name and shape, also under the names of other trainers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

#: The function by which timm networks rename and resample tensors.
_FILTERS = ("checkpoint_filter_fn", "_filter_fn", "pretrained_filter_fn")


def misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str | None:
    """Why tensors do not fit a network; None: they fit."""
    own = model.state_dict()
    missing = [key for key in _needed(own) if key not in state]
    unexpected = [key for key in state if key not in own]
    misshaped = [key for key in own if key in state and state[key].shape != own[key].shape]
    if misshaped:
        key = misshaped[0]
        first = f"{key} is {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the network"
    elif missing or unexpected:
        first = f"{missing[0]} is missing" if missing else f"{unexpected[0]} is unexpected"
    else:
        return None
    return (
        f"{len(missing)} tensors missing, {len(unexpected)} unexpected, {len(misshaped)} of another shape.\n"
        f"The first: {first}."
    )


def with_own_keys(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefix (``model.``, ``module.``) that all of the network's keys have in a file, if there is one.

    Unknown tensors are kept, so that they are refused later, except for the counter of torch's averaged models and for
    buffers that the network does not save.
    """
    own = model.state_dict()
    needed = _needed(own)
    ends = (key.removesuffix(needed[0]) for key in state if key.endswith(needed[0]))
    for prefix in sorted(ends, key=len):
        if not prefix or all(prefix + key in state for key in needed):
            break
    else:  # other names, or another network
        first = {key.partition(".")[0] for key in state}
        prefix = f"{first.pop()}." if len(first) == 1 and not any(key.partition(".")[0] in first for key in own) else ""
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    outside = {key: value for key, value in state.items() if not key.startswith(prefix)}
    if inside.keys() & outside.keys():
        return dict(state)
    dropped = {"n_averaged", *dict(model.named_buffers())} - set(own)
    return {key: value for key, value in {**inside, **outside}.items() if key not in dropped}


def adapted_by_timm(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Tensors of another format, converted by the network's own function in timm; None: it has none, or it fails."""
    architecture = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    if architecture is None or not timm.is_model(architecture):
        return None
    module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    adapt = next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
    if adapt is None:
        return None
    for arguments in ((dict(state), model), (dict(state),)):  # some take no network
        try:
            return with_own_keys(model, adapt(*arguments))
        except Exception:  # for tensors of another network it may raise anything
            continue
    return None


def _needed(own: Mapping[str, Tensor]) -> list[str]:
    """The keys that a file must have. Batch counters are optional: many files lack them, and inference ignores them."""
    return [key for key in own if not key.endswith("num_batches_tracked")]
