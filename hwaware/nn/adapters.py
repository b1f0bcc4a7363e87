"""Low-rank adapters in digital memory, beside layers whose weights are frozen: ``y ← y + α/r·B A x``.

After AHWA-LoRA (arXiv 2411.17367): cells are written once, with the pretrained weights, and LoRA adapters (arXiv
2106.09685) learn the task and compensate for the hardware. An adapter is a child module of its layer,
``layer.adapter``, and a forward hook adds its output. So a layer keeps its adapter when it is converted, and when it is
made digital again. On chips, the adapter's values are exact, its input is the layer's digital input, and its output is
added after the converters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwaware.errors import UserError
from hwaware.hardware.placement import matches
from hwaware.nn.layers import AnalogConv2d, AnalogLinear

#: The layers that can have an adapter; convolutions only without groups.
_ADAPTED = (nn.Linear, nn.Conv2d, AnalogLinear, AnalogConv2d)


class LowRank(nn.Module):
    """The adapter of one layer; B starts at zero, so the network's function is unchanged at first.

    Attributes:
        down: A, ``[rank, C_in]``; for a convolution ``[rank, C_in, k, k]``, with the layer's stride and padding.
        up: B, ``[C_out, rank]``.
        gain: α/r.
    """

    def __init__(self, layer: nn.Module, rank: int, gain: float) -> None:
        super().__init__()
        weight: Any = layer.weight
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))  # as LoRA does
        self.gain = gain

    def beside(self, layer: Any, input: Tensor) -> Tensor:
        """The adapter's contribution to the layer's output."""
        if isinstance(layer, nn.Conv2d):
            reduced = layer._conv_forward(input, self.down, None)
            return self.gain * F.conv2d(reduced, self.up[:, :, None, None])
        return self.gain * F.linear(F.linear(input, self.down), self.up)

    @torch.no_grad()
    def as_weight(self) -> Tensor:
        """The adapter as a contribution to the layer's weight, in its shape."""
        return self.gain * (self.up @ self.down.flatten(1)).view(len(self.up), *self.down.shape[1:])


def adapters(model: nn.Module) -> dict[str, tuple[Any, LowRank]]:
    """The layers with adapters, and their adapters, by layer name."""
    return {
        name: (module, adapter)
        for name, module in model.named_modules()
        if isinstance(adapter := getattr(module, "adapter", None), LowRank)
    }


def add_adapters(model: nn.Module, rank: int, gain: float, match: Iterable[str] = ("*",)) -> list[str]:
    """Adds an adapter to every layer that the patterns match and that can have one, and freezes everything else.

    Args:
        model: the network; changed in place.
        rank: rank r of the adapters.
        gain: α/r.
        match: shell patterns on module names.

    Returns:
        The names of the layers with adapters.

    Raises:
        UserError: a pattern matches no layer that can have an adapter.
    """
    names = [name for name, module in model.named_modules() if _can_have_one(module)]
    chosen = {name: None for pattern in match for name in matches(pattern, names, "adapters.match")}
    model.requires_grad_(False)
    for name in chosen:
        _attach(model.get_submodule(name), rank, gain)
    return list(chosen)


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors, by ``LAYER.down`` and ``LAYER.up``."""
    return {
        f"{name}.{what}": getattr(adapter, what).detach()
        for name, (_, adapter) in adapters(model).items()
        for what in ("down", "up")
    }


@torch.no_grad()
def merge_adapters(model: nn.Module) -> nn.Module:
    """Merges the adapters of a digital network into its weights, in place; returns the model."""
    for layer, adapter in adapters(model).values():
        layer.weight.add_(adapter.as_weight())
        del layer.adapter
        layer._forward_hooks.pop(layer._adapter_hook, None)
    return model


@torch.no_grad()
def split_adapters(model: nn.Module, state: Mapping[str, Tensor], gain: float) -> nn.Module:
    """Splits merged weights into plain weights and adapters: the inverse of :func:`merge_adapters`.

    Args:
        model: digital network with merged weights and without adapters.
        state: the output of :func:`adapter_state`.
        gain: α/r.

    Raises:
        UserError: the adapters belong to another network.
    """
    modules = dict(model.named_modules())
    for name in dict.fromkeys(key.rpartition(".")[0] for key in state):
        down, up = state.get(f"{name}.down"), state.get(f"{name}.up")
        layer: Any = modules.get(name)
        if down is None or up is None or not _can_have_one(layer):
            raise UserError(f"there is an adapter for layer '{name}', which the network does not have.")
        if (len(up), *down.shape[1:]) != tuple(layer.weight.shape):
            raise UserError(f"the adapter of layer '{name}' does not fit its weight, {list(layer.weight.shape)}.")
        adapter = _attach(layer, len(down), gain)
        adapter.down.copy_(down)
        adapter.up.copy_(up)
        layer.weight.sub_(adapter.as_weight())
    return model


def refuse_adapters(model: nn.Module, what: str) -> None:
    """Raises UserError for a network with adapters, which ``what`` does not support."""
    if found := adapters(model):
        raise UserError(
            f"the network has adapters beside {len(found)} layers ('{next(iter(found))}'), which {what} does not keep: "
            "its model.safetensors has them merged, and loads as plain weights (--model.weights)."
        )


def _can_have_one(module: Any) -> bool:
    return type(module) in _ADAPTED and getattr(module, "groups", 1) == 1


def _attach(layer: Any, rank: int, gain: float) -> LowRank:
    layer.adapter = adapter = LowRank(layer, rank, gain)
    layer._adapter_hook = layer.register_forward_hook(_add).id
    return adapter


def _add(layer: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + layer.adapter.beside(layer, args[0]).to(output.dtype)
