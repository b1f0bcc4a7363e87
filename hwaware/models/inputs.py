"""The image preprocessing of a network, from timm's entry for its name and the arguments that it was built with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from timm.data import resolve_model_data_config
from torch import nn

from hwaware.errors import UserError

#: Arguments of timm that have their own option here; only this package may read files.
_ELSEWHERE = {
    "num_classes": "model.num_classes",
    "name": "model.name",
    "weights": "model.weights",
    "weights_key": "model.weights_key",
    "new_head": "model.num_classes",
    "pretrained": "model.pretrained",
    "checkpoint_path": "model.weights",
    "pretrained_cfg": "data.mean, data.std, data.crop_pct or model.weights",
    "pretrained_cfg_overlay": "data.mean, data.std, data.crop_pct or model.weights",
    "scriptable": "hwaware export",
    "exportable": "hwaware export",
    "cache_dir": "the environment variable HF_HOME",
}


def check_kwargs(kwargs: Mapping[str, Any]) -> None:
    """Raises UserError for arguments of a network that have their own option."""
    for key, instead in _ELSEWHERE.items():
        if key in kwargs:
            raise UserError(f"model.kwargs.{key}: set {instead} instead.")


def data_config(network: nn.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessing that the network was trained with: input size, mean, std, crop, interpolation.

    Args:
        network: a timm network.
        kwargs: the arguments that it was built with; ``in_chans`` and ``img_size`` change the input size.
    """
    config = resolve_model_data_config(network)
    channels, *size = config["input_size"]
    if (given := kwargs.get("img_size")) is not None:
        size = list(given) if isinstance(given, list | tuple) else [given, given]
    return config | {"input_size": (kwargs.get("in_chans", channels), *size)}


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The image settings of a data config, as plain types; all other entries of a file are ignored."""
    return {
        **{key: list(config[key]) for key in ("input_size", "mean", "std") if key in config},
        **{key: config[key] for key in ("crop_pct", "interpolation") if key in config},
    }


def input_size_is(network: nn.Module) -> Literal["usual", "fixed", "unknown"]:
    """Of :class:`~hwaware.data.ImageInputs`."""
    entry: Any = getattr(network, "pretrained_cfg", None) or {}
    if not entry.get("input_size"):
        return "unknown"
    return "fixed" if entry.get("fixed_input_size") and not getattr(network, "dynamic_img_size", False) else "usual"
