"""torch's multi-head attention, rewritten so that its projections are layers that are called."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwaware.nn.layers import Keys


class CallingAttention(nn.MultiheadAttention):
    """:class:`torch.nn.MultiheadAttention` whose ``in_proj`` is a layer: queries, keys and values on one crossbar.

    If query, key and value are the same tensor, the layer is called once. Otherwise it is called for each of them, and
    the columns whose outputs are not used are driven and counted as well.
    """

    layers = ("in_proj", "out_proj")
    note = "without add_bias_kv, add_zero_attn, kdim and vdim"

    @staticmethod
    def takes(attention: Any) -> bool:
        """Whether an attention can be rewritten: no extra keys and values, and one width for all."""
        return attention._qkv_same_embed_dim and attention.bias_k is None and not attention.add_zero_attn

    @staticmethod
    def keys_of(attention: nn.Module) -> dict[str, Keys]:
        """Parameters of each part."""
        return {"in_proj": ("in_proj_weight", "in_proj_bias", None)}

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = self._projected(query, key, value)
        if query.ndim == 2:
            q, k, v = (one.unsqueeze(0) for one in (q, k, v))
        elif not self.batch_first:
            q, k, v = (one.transpose(0, 1) for one in (q, k, v))
        q, k, v = (one.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for one in (q, k, v))  # [N, heads, L, E]
        mask = self._mask(q, attn_mask, key_padding_mask)
        weights, dropout = None, self.dropout if self.training else 0.0
        if need_weights:
            scores = (q * math.sqrt(1 / q.shape[-1])) @ k.mT
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            output = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            output = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        output = self.out_proj(output.transpose(1, 2).flatten(2))
        if query.ndim == 2:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        project: Any = self.in_proj
        if query is key and key is value:
            return project(query).chunk(3, dim=-1)
        q = project(query).chunk(3, dim=-1)[0]
        if key is value:
            return q, *project(key).chunk(3, dim=-1)[1:]
        return q, project(key).chunk(3, dim=-1)[1], project(value).chunk(3, dim=-1)[2]

    def _mask(self, q: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor | None:
        """Both masks, combined into one that is added to the scores ``[N, heads, L, S]``."""
        total = None
        if attn_mask is not None:  # [L, S], or [N·heads, L, S]
            total = _added(attn_mask, q)
            total = total if total.ndim == 2 else total.unflatten(0, (-1, self.num_heads))
        if key_padding_mask is not None:  # [N, S], or [S]
            padding = _added(key_padding_mask, q).reshape(len(q), 1, 1, -1)
            total = padding if total is None else total + padding
        return total


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as an additive one; True in a boolean mask means masked out."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
