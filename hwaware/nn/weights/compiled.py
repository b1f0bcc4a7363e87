"""The weights of one training step in two compiled calls, one forward and one backward.

The same look-ups as in :mod:`hwaware.nn.weights.fused`, written plainly: ``torch.compile`` makes a loop or a few GPU
kernels of each function. On a GPU the blocks of ``fused`` would launch dozens of kernels a layer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hwaware.hardware import Encoding
from hwaware.nn.weights.fused import (
    SLOPE_SIZE,
    SMALLEST_SCALE,
    memory_format,
    shifted_table,
    slope_table,
    slope_tables,
    squares_table,
)
from hwaware.nn.weights.gaussian import gaussian_blocks
from hwaware.nn.weights.tables import ErrorTable, NoiseTable


def is_supported(encoding: Encoding, noise: NoiseTable, error: ErrorTable | None) -> bool:
    """Whether :func:`realise` here knows this case: no fixed scale, and tables of one length."""
    if encoding.scaling.fixed is not None:
        return False
    return error is None or len(error) == len(noise)


def realise(
    latent: Tensor, encoding: Encoding, noise: NoiseTable, error: ErrorTable | None
) -> tuple[Tensor, Tensor | None]:
    """:func:`hwaware.nn.weights.fused.realise`, compiled, for what :func:`is_supported`.

    The values differ from that function's by the rounding of fp32.
    """
    apply = _apply_beside if torch.compiler.is_compiling() else _Compiled.apply
    return apply(latent, encoding, noise, error)


def probe(device: torch.device) -> None:
    """Compiles for a device; raises whatever the compiler raises where it cannot."""
    w, table, slopes = torch.ones(1, 64, device=device), torch.ones(3, 2, device=device), torch.ones(3, device=device)
    with torch.no_grad():
        weight, s, sums, ratio = _compiled()[0](w, table, table, w, 0)
        _compiled()[1](w, weight, w, s, sums, ratio, slopes, table, 0)


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, encoding: Encoding, noise: NoiseTable, error: ErrorTable | None
    ) -> tuple[Tensor, Tensor | None]:
        layout = memory_format(latent)
        w = latent.float().contiguous(memory_format=layout)
        rows = _rows(w, encoding.scaling.per_channel)
        (z,) = gaussian_blocks([w.numel()], w.device)
        squares = None if error is None else torch.view_as_real(squares_table(error, encoding))
        table = torch.view_as_real(shifted_table(noise, encoding))
        out, s, sums, ratio = _compiled()[0](rows, table, squares, z.view(rows.shape), _code_steps(encoding))
        weight = out.as_strided(w.shape, w.stride())
        ctx.encoding, ctx.error, ctx.layout = encoding, error, layout
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(latent, weight, s, sums)
        return weight, ratio

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_weight: Tensor | None, g_ratio: Tensor | None) -> tuple[Tensor, None, None, None]:
        latent, weight, s, sums = ctx.saved_tensors
        encoding, per_channel = ctx.encoding, ctx.encoding.scaling.per_channel
        w = latent.float().contiguous(memory_format=ctx.layout)
        if g_weight is None:
            g_weight = torch.zeros_like(w)
        gains: Tensor | None = None
        if g_ratio is not None:
            slope, gain, power_gain = slope_tables(ctx.error, encoding)
            gains = _pair(gain, power_gain)
        else:
            slope = slope_table(SLOPE_SIZE, encoding.curve, w.device).real.contiguous()
        tensors = (w, weight, g_weight.contiguous(memory_format=ctx.layout))
        rows = [_rows(x, per_channel) for x in tensors]
        grad = _compiled()[1](*rows, s, sums, g_ratio, slope, gains, _code_steps(encoding))
        return grad.as_strided(w.shape, w.stride()).to(latent.dtype), None, None, None


#: Within a network that is compiled as a whole: left out of its graph, but compiled on its own.
_apply_beside = torch.compiler.disable(_Compiled.apply, recursive=False)


def _forward(
    w: Tensor, table: Tensor, squares: Tensor | None, z: Tensor, code_steps: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Weights, their scales ``[rows, 1]``, the sums of R and f² over each row ``[rows, 2]``, and the error's ratio."""
    s = w.abs().amax(-1, keepdim=True)
    index = _nearest(w, s, len(table), code_steps)
    weight = s * (table[index, 0] + table[index, 1] * z)
    if squares is None:
        return weight, s, None, None
    sums = torch.cat([squares[index, k].sum(-1, keepdim=True) for k in (0, 1)], -1) * s**2
    expected, power = sums.sum(0)
    return weight, s, sums, torch.where(power == 0, 0.0, expected / power)


def _backward(
    w: Tensor,
    weight: Tensor,
    g: Tensor,
    s: Tensor,
    sums: Tensor | None,
    g_ratio: Tensor | None,
    slopes: Tensor,
    gains: Tensor | None,
    code_steps: int,
) -> Tensor:
    """Gradient of the latents: through u, and through the scales to the weights that set them."""
    index = _nearest(w, s, len(slopes), code_steps)
    grad = slopes[index] * g
    direct: Tensor | None = None
    if sums is not None and g_ratio is not None and gains is not None:
        expected, power = sums.sum(0)
        ratio, share = (torch.where(power == 0, 0.0, x / power) for x in (expected, g_ratio))
        grad = grad + (gains[index, 0] - gains[index, 1] * ratio) * (share * s)
        direct = 2 * share * (sums[:, :1] - ratio * sums[:, 1:])  # s² in both sums; 0 where one scale is for all
    # Through s, times s: the weights are s·(…) of w/s, so that it takes Σ g·ŵ and gives back Σ grad·w.
    through = (g * weight).sum(-1, keepdim=True) - (grad * w).sum(-1, keepdim=True)
    if direct is not None:
        through = through + direct
    peaks = w.abs() == s
    count = s * peaks.sum(-1, keepdim=True)
    return grad + torch.where(peaks & (count != 0), w.sign() * (through / count), 0.0)


def _nearest(w: Tensor, s: Tensor, size: int, code_steps: int) -> Tensor:
    """The table position nearest to w/s, or to its code."""
    half = (size - 1) / 2
    if code_steps:
        code = torch.nan_to_num(w / s, 0.0, 0.0, 0.0).mul(code_steps).round().clamp(-code_steps, code_steps - 1)
        x = code * (half / code_steps) + (half + 0.5)
    else:
        inverse = torch.where((s > SMALLEST_SCALE) & s.isfinite(), 1 / s, 0.0)
        x = torch.nan_to_num(w * (half * inverse) + (half + 0.5), half, half, half)
    return x.to(torch.int64)


@lru_cache
def _compiled() -> tuple[Any, Any]:
    return tuple(torch.compile(f, dynamic=True, fullgraph=True) for f in (_forward, _backward))  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _pair(first: Tensor, second: Tensor) -> Tensor:
    """As columns, so that one read of memory gives both. (Tables are told apart by identity.)"""
    return torch.stack([first, second], -1)


def _rows(x: Tensor, per_channel: bool) -> Tensor:
    """A view of a dense tensor in memory order: one row, or one per output channel."""
    n = x.numel() // max(len(x), 1)
    return x.as_strided((len(x), n), (n, 1)) if per_channel else x.as_strided((1, x.numel()), (x.numel(), 1))


def _code_steps(encoding: Encoding) -> int:
    return encoding.steps if encoding.format.is_fixed_point else 0
