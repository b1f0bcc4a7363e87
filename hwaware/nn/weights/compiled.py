"""The weights of one training step on a CPU, by compiled functions: one pass forward, one back.

What is computed is :mod:`hwaware.nn.weights.definition`, looked up at the nearest positions as in
:mod:`hwaware.nn.weights.fused`. The Gaussians are not those of its pool: they are computed where they are used, from a
counter and a key of 64 bits (Philox), so that they are all independent and take no memory. The key comes from torch's
global generator: the same seed gives the same noise, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

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
        layout = memory_format(latent)
        w = latent.float().contiguous(memory_format=layout)
        weight, cut, key = torch.empty_like(w), _Cut.of(w, encoding), _draw_key()
        scales, sums = cut.scales(w), cut.zeros(2)
        table = _rows(noise, error, encoding)
        given = key, len(noise), cut.code_steps, _at(table), _at(sums)
        cut.run(lambda *some: library().hwaware_forward(_at(w), _at(weight), *some, _at(scales), *given))
        ratio = None
        if error is not None:  # Σ s²R and Σ w_eff²
            ctx.sums = sums * scales.double().square().unsqueeze(-1)
            expected, ctx.power = ctx.sums.sum(0).tolist()
            ctx.ratio = _divide(expected, ctx.power)
            ratio = torch.tensor(ctx.ratio, dtype=torch.float32, device="cpu")
        ctx.encoding, ctx.error, ctx.layout, ctx.cut, ctx.scales_of = encoding, error, layout, cut, scales
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(latent, weight)
        return weight, ratio

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_weight: Tensor | None, g_ratio: Tensor | None) -> tuple[Tensor, None, None, None]:
        latent, weight = ctx.saved_tensors
        cut, scales = ctx.cut, ctx.scales_of
        w = latent.float().contiguous(memory_format=ctx.layout)
        g = None if g_weight is None else g_weight.contiguous(memory_format=ctx.layout)
        grad, sums = torch.empty_like(w), cut.zeros(3)
        share = 0.0 if g_ratio is None else _divide(g_ratio.item(), ctx.power)
        if share:  # slope of f, and of the ratio in u
            slope, gain, power_gain = slope_tables(ctx.error, ctx.encoding)
            table = torch.complex(slope, gain - power_gain * ctx.ratio)
        else:
            table = slope_table(SLOPE_SIZE, ctx.encoding.curve, w.device)
        pulls = scales * share
        given = len(table), cut.code_steps, _at(table), _at(sums)
        cut.run(
            lambda *some: library().hwaware_backward(
                _at(w), _at(weight), _at(g), _at(grad), *some, _at(scales), _at(pulls), *given
            )
        )
        # Through s, times s: the weights are s·(…) of w/s, so that it takes Σ g·ŵ and gives back Σ grad·w.
        through, peaks = sums[:, 0] - sums[:, 1], sums[:, 2]
        if share:  # s² in both sums; nothing where one scale is for all
            through = through + 2 * share * (ctx.sums[:, 0] - ctx.ratio * ctx.sums[:, 1])
        if not cut.per_channel:
            through, peaks = through.sum(), peaks.sum()
        count = peaks * scales
        shares = (through / count).masked_fill_(count == 0, 0.0).float()
        cut.run(lambda *some: library().hwaware_add_at_peaks(_at(w), _at(grad), *some, _at(scales), _at(shares)))
        return grad.to(latent.dtype), None, None, None


@dataclass(frozen=True)
class _Cut:
    """How a layer's weights are cut into segments: channels where each has its scale, else pieces.

    Attributes:
        size, length, segments: of weights, of those in a segment (the last may be shorter), of segments.
        per_channel: whether segments are channels.
        code_steps: of codes; 0: they are not such.
    """

    size: int
    length: int
    segments: int
    per_channel: bool
    code_steps: int

    @classmethod
    def of(cls, w: Tensor, encoding: Encoding) -> _Cut:
        size, per_channel = w.numel(), encoding.scaling.per_channel
        length = size // len(w) if per_channel else PIECE
        steps = encoding.steps if encoding.format.is_fixed_point else 0
        return cls(size, length, -(-size // length), per_channel, steps)

    def run(self, call: Callable[[int, int, int, int], None]) -> None:
        """Has each segment done, by size, length, the first one, and the one after the last."""
        over(self.segments, lambda first, end: call(self.size, self.length, first, end), self.size)

    def zeros(self, columns: int) -> Tensor:
        return torch.zeros(self.segments, columns, dtype=torch.float64, device="cpu")

    def scales(self, w: Tensor) -> Tensor:
        """That of each segment, fp32 ``[segments]``."""
        found = torch.empty(self.segments, device="cpu")
        self.run(lambda *some: library().hwaware_scales(_at(w), *some, _at(found)))
        return found if self.per_channel else found.amax().repeat(self.segments)


@lru_cache(maxsize=8)
def _rows(noise: NoiseTable, error: ErrorTable | None, encoding: Encoding) -> Tensor:
    """f(u) + mean, std, R(u) and f(u)² at each position ``[K, 4]``. (Tables are told apart by identity.)"""
    shifted = torch.view_as_real(shifted_table(noise, encoding))
    squares = torch.zeros_like(shifted) if error is None else torch.view_as_real(squares_table(error, encoding))
    return torch.cat([shifted, squares], 1)


def _at(x: Tensor | None) -> int | None:
    """Where a tensor's numbers lie."""
    return None if x is None else x.data_ptr()


def _divide(a: float, b: float) -> float:
    """a/b, and 0 where b is 0."""
    return a / b if b else 0.0


def _draw_key() -> int:
    """64 random bits from torch's global generator."""
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_(-(2**63), None)) % 2**64


_apply_uncompiled = torch.compiler.disable(_Realise.apply)
