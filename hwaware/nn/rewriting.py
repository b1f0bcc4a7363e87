"""Exact rewriting of modules that use weights directly, so that they call layers instead.

Parameters, keys and function stay the same; :func:`restore` undoes everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from hwaware.nn.attention import CallingAttention
from hwaware.nn.experts import forms
from hwaware.nn.layers import Part
from hwaware.nn.recurrent import CallingGRU, CallingLSTM

#: Modules of other libraries that call their layers if a switch is set: its name, the required value, and the class of
#: the module (None: any module with that switch and another value).
_SWITCHES: tuple[tuple[str, Any, type[nn.Module] | None], ...] = (
    ("qkv_bias_separate", True, None),  # timm's attention of BEiT, EVA and Swin V2, which adds the bias separately
    ("activation_relu_or_gelu", 0, nn.TransformerEncoderLayer),  # its fast path reads all weights directly
    ("use_nested_tensor", False, nn.TransformerEncoder),  # only the fast path uses them
)

#: Classes that call layers instead of using their own weights, by the class that they are rewritten from.
CALLING: dict[type[nn.Module], Any] = {
    nn.MultiheadAttention: CallingAttention,
    nn.LSTM: CallingLSTM,
    nn.GRU: CallingGRU,
}


def rewrite(model: nn.Module) -> list[nn.Module]:
    """Rewrites all modules of a network that need it, in place; returns these modules."""
    found, calls = [], CALLING | dict(forms())
    for module in list(model.modules()):
        was: dict[str, Any] = {}
        for switch, value, kind in _SWITCHES:
            if switch in module.__dict__ and (kind is None or isinstance(module, kind)):
                if module.__dict__[switch] != value:
                    was[switch] = module.__dict__[switch]
                    setattr(module, switch, value)
        calling = calls.get(type(module))
        if calling is not None and calling.takes(module):
            was["__class__"], module.__class__ = type(module), calling
            parts = {name: Part(module, keys) for name, keys in calling.keys_of(module).items()}
            module._modules = parts | module._modules
        if was:
            module.__dict__["_before_rewriting"] = was
            found.append(module)
    return found


def restore(modules: Iterable[nn.Module]) -> None:
    """Undoes :func:`rewrite` for those of ``modules`` that were rewritten."""
    for module in list(modules):
        was = module.__dict__.pop("_before_rewriting", {})
        if "__class__" in was:
            module._modules = {name: child for name, child in module._modules.items() if not isinstance(child, Part)}
        for attribute, value in was.items():
            setattr(module, attribute, value)
