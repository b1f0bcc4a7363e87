"""Mixtures of experts of transformers, rewritten so that their matrices are layers that are called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hwaware.nn.layers import Keys

#: Architectures whose experts and routers are copies of Mixtral's: module, and prefix of its class names.
_ARCHITECTURES = {"mixtral": "Mixtral", "minimax": "MiniMax", "qwen2_moe": "Qwen2Moe", "qwen3_moe": "Qwen3Moe",
                  "qwen3_next": "Qwen3Next"}  # fmt: skip


class CallingRouter(nn.Module):
    """A router whose matrix is the layer ``logits``."""

    layers = ("logits",)
    note = "routers of Mixtral, MiniMax, Qwen2-MoE, Qwen3-MoE and Qwen3-Next"

    @staticmethod
    def takes(router: Any) -> bool:
        return True

    @staticmethod
    def keys_of(router: Any) -> dict[str, Keys]:
        """Parameters of each part."""
        return {"logits": ("weight", None, None)}

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        router: Any = self
        logits = router.logits(hidden_states.reshape(-1, router.hidden_dim))
        scores, indices = logits.float().softmax(-1).topk(router.top_k, dim=-1)
        if getattr(self, "norm_topk_prob", True):
            scores = scores / scores.sum(-1, keepdim=True)
        return logits, scores.to(logits.dtype) if hasattr(self, "norm_topk_prob") else scores, indices


class CallingExperts(nn.Module):
    """Experts whose matrices are the layers ``gate_up_0``, ``down_0``, …; each expert is called with its own tokens."""

    layers = ("gate_up_0", "down_0", "…")
    note = "experts of Mixtral, MiniMax, Qwen2-MoE, Qwen3-MoE and Qwen3-Next; an expert without tokens is not called"

    @staticmethod
    def takes(experts: Any) -> bool:
        return True

    @staticmethod
    def keys_of(experts: Any) -> dict[str, Keys]:
        """Parameters of each part."""
        return {
            f"{part}_{index}": (f"{part}_proj", None, index)
            for index in range(experts.num_experts)
            for part in ("gate_up", "down")
        }

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        experts: Any = self
        output = torch.zeros_like(hidden_states)
        for index in top_k_index.unique().tolist():
            if index == experts.num_experts:  # padding
                continue
            token, place = (top_k_index == index).nonzero(as_tuple=True)
            gate, up = self.get_submodule(f"gate_up_{index}")(hidden_states[token]).chunk(2, dim=-1)
            given = self.get_submodule(f"down_{index}")(experts.act_fn(gate) * up)
            output.index_add_(0, token, (given * top_k_weights[token, place, None]).to(output.dtype))
        return output


def forms() -> Iterator[tuple[type[nn.Module], type[nn.Module]]]:
    """The classes that are already imported, with the classes that they are rewritten to."""
    for module, name in _ARCHITECTURES.items():
        if found := sys.modules.get(f"transformers.models.{module}.modeling_{module}"):
            yield getattr(found, f"{name}TopKRouter"), CallingRouter
            yield getattr(found, f"{name}Experts"), CallingExperts
