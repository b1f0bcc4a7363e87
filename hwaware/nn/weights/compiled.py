"""The weights of one training step on a CPU, by compiled functions: one pass forward, one back.

What is computed is :mod:`hwaware.nn.weights.definition`, looked up at the nearest positions as in
:mod:`hwaware.nn.weights.fused`. The Gaussians are not those of its pool: they are computed where they are used, from a
counter and a key of 64 bits (Philox), so that they are all independent and take no memory. The key comes from torch's
global generator: the same seed gives the same noise, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from hwaware.hardware import Encoding
from hwaware.nn.weights import fused
from hwaware.nn.weights.fused import (
    SLOPE_SIZE,
    memory_format,
    shifted_table,
    slope_table,
    slope_tables,
    squares_table,
)
from hwaware.nn.weights.native import library, over
from hwaware.nn.weights.tables import ErrorTable, NoiseTable

PIECE = 131_072  # weights that one thread takes of a layer, of which one scale is


def realise(
    latent: Tensor, encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None
) -> tuple[Tensor, Tensor | None]:
    """What :func:`hwaware.nn.weights.fused.realise` gives, but for the draws; by it where the case is not known here.

    Raises:
        OSError: the functions could not be compiled.
    """
    if not is_supported(encoding, noise, error) or latent.device.type != "cpu" or not latent.numel():
        return fused.realise(latent, encoding, noise, error)
    apply = _apply_uncompiled if torch.compiler.is_compiling() else _Realise.apply
    return apply(latent, encoding, noise, error)


def is_supported(encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None) -> bool:
    """Whether noise is wanted, tables are of one length, and scales follow the weights."""
    if noise is None or encoding.scaling.fixed is not None:
        return False
    return error is None or len(error) == len(noise)


class _Realise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, encoding: Encoding, noise: NoiseTable, error: ErrorTable | None
    ) -> tuple[Tensor, Tensor | None]:
        c, cut = library(), _Cut.of(latent, encoding)
        w = latent.float().contiguous(memory_format=cut.layout)
        weight = torch.empty_like(w)
        scales, sums, table = cut.room(1, torch.float32), cut.room(2), _values(noise, error, encoding)
        cut.run(c.hwaware_scales, (_at(w),), _at(scales))
        if not cut.per_channel:
            c.hwaware_one_scale(cut.segments, _at(scales))
        given = _draw_key(), len(noise), cut.code_steps, _at(table), _at(sums)
        cut.run(c.hwaware_forward, (_at(w), _at(weight)), _at(scales), *given)
        ratio = None
        if error is not None:
            found = torch.empty(3, dtype=torch.float64, device="cpu")
            c.hwaware_ratio(cut.segments, _at(scales), _at(sums), _at(found))
            _, ctx.power, ctx.ratio = found.tolist()
            ratio = torch.tensor(ctx.ratio, dtype=torch.float32, device="cpu")
        ctx.encoding, ctx.error, ctx.cut, ctx.scales, ctx.sums = encoding, error, cut, scales, sums
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(latent, weight)
        return weight, ratio

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_weight: Tensor | None, g_ratio: Tensor | None) -> tuple[Tensor, None, None, None]:
        c, cut, scales = library(), ctx.cut, ctx.scales
        latent, weight = ctx.saved_tensors
        w = latent.float().contiguous(memory_format=cut.layout)
        g = None if g_weight is None else g_weight.contiguous(memory_format=cut.layout)
        grad = torch.empty_like(w)
        share = ratio = 0.0
        if g_ratio is not None and ctx.power:
            share, ratio = g_ratio.item() / ctx.power, ctx.ratio
        sums, shares = cut.room(3), cut.room(1, torch.float32)
        table = _slopes(ctx.error, ctx.encoding)
        given = share, ratio, len(table), cut.code_steps, _at(table), _at(sums)
        cut.run(c.hwaware_backward, (_at(w), _at(weight), _at(g), _at(grad)), _at(scales), *given)
        about = _at(scales), _at(sums), _at(ctx.sums), share, ratio, _at(shares)
        c.hwaware_shares(cut.segments, cut.per_channel, *about)
        cut.run(c.hwaware_add_at_peaks, (_at(w), _at(grad)), _at(scales), _at(shares))
        return grad.to(latent.dtype), None, None, None


class _Cut(NamedTuple):
    """How a layer's weights are cut into segments: channels where each has its scale, else pieces.

    Attributes:
        layout: in which they lie in memory.
        size, length, segments: of weights, of those in a segment (the last may be shorter), of segments.
        per_channel: whether segments are channels.
        code_steps: of codes; 0: they are not such.
    """

    layout: torch.memory_format
    size: int
    length: int
    segments: int
    per_channel: bool
    code_steps: int

    @classmethod
    def of(cls, latent: Tensor, encoding: Encoding) -> Self:
        size, per_channel = latent.numel(), encoding.scaling.per_channel
        length = size // len(latent) if per_channel else PIECE
        steps = encoding.steps if encoding.format.is_fixed_point else 0
        return cls(memory_format(latent), size, length, -(-size // length), per_channel, steps)

    def run(self, function: Callable[..., None], weights: tuple[int | None, ...], *rest: Any) -> None:
        """Has a function of the library do all segments, of those weights."""
        over(
            self.segments,
            lambda first, end: function(*weights, self.size, self.length, first, end, *rest),
            self.size,
        )

    def room(self, columns: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """``[segments, columns]``, of anything."""
        return torch.empty(self.segments, columns, dtype=dtype, device="cpu")


# Tables as the library reads them: a row for each position. (They are told apart by identity.)


@lru_cache(maxsize=8)
def _values(noise: NoiseTable, error: ErrorTable | None, encoding: Encoding) -> Tensor:
    """f(u) + mean, std, R(u) and f(u)², fp32 ``[K, 4]``."""
    shifted = torch.view_as_real(shifted_table(noise, encoding))
    squares = torch.zeros_like(shifted) if error is None else torch.view_as_real(squares_table(error, encoding))
    return torch.cat([shifted, squares], 1)


@lru_cache(maxsize=64)
def _slopes(error: ErrorTable | None, encoding: Encoding) -> Tensor:
    """f'(u), R'(u), (f²)'(u) and 0, likewise."""
    if error is None:
        slope = slope_table(SLOPE_SIZE, encoding.curve, torch.device("cpu")).real
        return torch.stack([slope, *[torch.zeros_like(slope)] * 3], -1)
    slopes = slope_tables(error, encoding)
    return torch.stack([*slopes, torch.zeros_like(slopes[0])], -1)


def _at(x: Tensor | None) -> int | None:
    """Where a tensor's numbers lie."""
    return None if x is None else x.data_ptr()


def _draw_key() -> int:
    """64 random bits from torch's global generator."""
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_(-(2**63), None)) % 2**64


_apply_uncompiled = torch.compiler.disable(_Realise.apply)
