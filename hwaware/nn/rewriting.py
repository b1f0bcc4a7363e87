"""Exact rewritings of modules that read their layers' weights, or keep weights of their own: so that they call layers.

Parameters, keys and function stay what they are; :func:`restore` undoes everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from hwaware.nn.attention import CallingAttention
from hwaware.nn.experts import forms
from hwaware.nn.layers import Part
from hwaware.nn.recurrent import CallingGRU, CallingLSTM

#: Modules of other libraries that call their layers where a switch says so: its name, what it has to be, and of what
#: kind the module is (None: whatever has such a switch, and another value of it).
_SWITCHES: tuple[tuple[str, Any, type[nn.Module] | None], ...] = (
    ("qkv_bias_separate", True, None),  # timm's attention of BEiT, EVA and Swin V2, which adds the bias by itself
    ("activation_relu_or_gelu", 0, nn.TransformerEncoderLayer),  # whose fast path reads all weights
    ("use_nested_tensor", False, nn.TransformerEncoder),  # which none but the fast path takes
)

#: Modules that call parts in place of their own weights, by the class that they are rewritten from.
CALLING: dict[type[nn.Module], Any] = {
    nn.MultiheadAttention: CallingAttention,
    nn.LSTM: CallingLSTM,
    nn.GRU: CallingGRU,
}


def rewrite(model: nn.Module) -> list[nn.Module]:
    """Rewrites all modules of a network that need it, in place, and returns them."""
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
    """Undoes :func:`rewrite` of those among some modules that it rewrote."""
    for module in list(modules):
        was = module.__dict__.pop("_before_rewriting", {})
        if "__class__" in was:
            module._modules = {name: child for name, child in module._modules.items() if not isinstance(child, Part)}
        for attribute, value in was.items():
            setattr(module, attribute, value)
