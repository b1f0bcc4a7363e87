"""From latent weights to the weights of one training step: sinh transform, device noise, expected error.

The result is defined in :mod:`hwaware.nn.weights.definition`. One custom function goes over the weights in blocks,
forward and backward, in as few passes and calls as possible, because each of them is noticeable beside a layer's matrix
products. Transform, slope, noise and error are looked up in the same reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from itertools import repeat
from threading import get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwaware.hardware import Encoding
from hwaware.nn.weights.gaussian import gaussian_blocks
from hwaware.nn.weights.tables import ErrorTable, NoiseTable, positions

BLOCK = 147_456  # weights: a block's buffers (2 MB) stay in the cache between passes, and calls (1-2 µs each) stay few
SLOPE_SIZE = 32_769  # positions at which f' is tabulated where no error table says how many
SINH_TOLERANCE = 1e-6  # largest relative error of the polynomial that stands for f where there is no noise
SMALLEST_SCALE = 1e-30  # below, and where it is not finite, a scale gives no positions: u counts as 0

Number = float | Tensor
"""A float on the CPU, where small tensors cost more than arithmetic; 0-dim elsewhere, where a float would have to wait
for the device; ``[rows]`` or ``[rows, 1]`` per channel."""


def realise(
    latent: Tensor, encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None
) -> tuple[Tensor, Tensor | None]:
    """Effective weights with fresh device noise, and their expected error.

    Args:
        latent: latent weights ``[C_out, ...]``; half precision is computed in fp32.
        encoding: encoding of the weights.
        noise: noise of the written weights; None: no noise. Standard Gaussians come from torch's global generator.
        error: expected error of the written weights; None: it is not computed.

    Returns:
        The weights ``s·(f(u) + mean + std·z)``, fp32, in shape and memory format of ``latent``; and the normalised
        error ``Σ s²R(u) / Σ w_eff²`` (0-dim; 0 if all weights are zero), or None without ``error``.
        Without noise f(u) is exact. With noise it is also taken at the nearest position, with an error of f'(u)·s/K at
        most. Weights that are not finite give a result that is not finite, without an exception.

    Gradients go through u, by the slopes at the nearest position, and through ``s``, from which they reach the largest
    weights as through torch's ``amax`` (ties share). Mean, std and z are constants (straight-through), but noise and
    rounded weights grow with ``s``, and the gradient includes that. A fixed scale has no gradient; with it, a weight
    beyond the codes gets a gradient only if a step against it leads back. Without noise, error, curve and grid the
    latent weights themselves are returned.
    """
    if noise is None and error is None and not encoding.curve and not encoding.steps:
        return latent, None
    apply = _apply_uncompiled if torch.compiler.is_compiling() else _Realise.apply
    return apply(latent, encoding, noise, error)


class _Realise(torch.autograd.Function):
    # Saved for the backward pass: the latents, the realised weights (which the layer saves anyway), and a few numbers.
    # All else is looked up again there, which is cheaper than writing it to memory and reading it back.

    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None
    ) -> tuple[Tensor, Tensor | None]:
        scaling, curve, steps = encoding.scaling, encoding.curve, encoding.steps
        per_channel, fixed_point = scaling.per_channel, encoding.format.is_fixed_point
        layout = memory_format(latent)
        w = latent.float().contiguous(memory_format=layout)
        weight = torch.empty_like(w)
        blocks = _blocks(w, per_channel)
        if scaling.fixed is None:
            scales, extremes = _scales(blocks, per_channel)
        else:
            scales, extremes = _fixed_scales(blocks, scaling.fixed), None
        if noise is not None:
            gaussians = gaussian_blocks([b.numel() for b in blocks], w.device)
            shifted = shifted_table(noise, encoding)
            if not per_channel:
                shifted = shifted * scales[0]
        if error is not None:
            squares = squares_table(error, encoding)

        sums, code_steps = [], steps if fixed_point else 0
        for w_block, out, s in zip(blocks, _blocks(weight, per_channel), scales, strict=True):
            z = None if noise is None else next(gaussians)  # may refill its pool: before the buffers are taken
            x, index, values, first, second = _scratch(w_block.numel(), w.device)
            if noise is None or z is None:
                _effective(w_block if not steps else _on_grid(w_block, s, steps, fixed_point), s, curve, out)
            else:
                _nearest(w_block, s, len(noise), x, index, code_steps)
                torch.index_select(shifted, 0, index, out=values)
                torch.addcmul(first, second, out.view(-1).copy_(z), out=out.view(-1))
                if per_channel:
                    out.mul_(s)
            if error is not None:
                if noise is None or len(noise) != len(error):
                    _nearest(w_block, s, len(error), x, index, code_steps)
                if per_channel:
                    torch.index_select(squares, 0, index, out=values)
                    sums.append(values.view(w_block.shape).sum(-1))
                else:  # to count is cheaper than to look up
                    sums.append(torch.bincount(index, minlength=len(error)))

        ratio = None
        if error is not None:  # s²R and w_eff² as one complex number: sums over each channel, or over all weights
            if per_channel:
                rows = torch.cat(scales)  # type: ignore[arg-type]  # per channel all are tensors
                ctx.sums = torch.cat(sums) * rows.squeeze(-1) ** 2
                ctx.total = ctx.sums.sum()
            else:
                ctx.total = _number(torch.dot(reduce(torch.add, sums).to(squares.dtype), squares)) * scales[0] ** 2
            ctx.ratio = _divide(ctx.total.real, ctx.total.imag)
            ratio = torch.as_tensor(ctx.ratio, dtype=torch.float32, device=w.device).clone()
        ctx.encoding, ctx.error, ctx.layout, ctx.scales, ctx.extremes = encoding, error, layout, scales, extremes
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(latent, weight)
        return weight, ratio

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_weight: Tensor | None, g_ratio: Tensor | None) -> tuple[Tensor, None, None, None]:
        latent, weight = ctx.saved_tensors
        encoding, scales = ctx.encoding, ctx.scales
        scaling, curve = encoding.scaling, encoding.curve
        per_channel, is_fixed = scaling.per_channel, scaling.fixed is not None
        w = latent.float().contiguous(memory_format=ctx.layout)
        grad = torch.empty_like(w)
        blocks, grad_blocks = _blocks(w, per_channel), _blocks(grad, per_channel)
        weight_blocks = _blocks(weight, per_channel)
        g_blocks: Iterable[Tensor | None] = repeat(None)
        if g_weight is not None:
            g_blocks = _blocks(g_weight.contiguous(memory_format=ctx.layout), per_channel)
        table = None
        if g_ratio is not None:  # slope of f, and of the ratio in u over s
            slope, gain, power_gain = slope_tables(ctx.error, encoding)
            share = _divide(_number(g_ratio), ctx.total.imag)
            table = torch.complex(
                slope, (gain - power_gain * ctx.ratio) * (share if per_channel else share * scales[0])
            )
        elif curve:
            table = slope_table(SLOPE_SIZE, curve, w.device)

        g_scales, code_steps = [], encoding.steps if encoding.format.is_fixed_point else 0
        for w_block, out, s, g, noisy in zip(blocks, grad_blocks, scales, g_blocks, weight_blocks, strict=False):
            if table is None:
                out.copy_(g)  # type: ignore[arg-type]  # there is one: else there was a table
            else:
                x, index, values, slope, pull = _scratch(w_block.numel(), w.device)
                _nearest(w_block, s, len(table), x, index, code_steps)
                torch.index_select(table, 0, index, out=values)
                if per_channel:
                    slope, pull = slope.view(w_block.shape), pull.view(w_block.shape) * s
                if g is None:
                    out.copy_(pull)
                elif g_ratio is None:
                    torch.mul(slope, g, out=out)
                else:
                    torch.addcmul(pull, slope, g, out=out)
            if is_fixed:
                _hold_within(w_block, s, encoding.steps, out)
                continue
            # Through s, times s: the weights are s·(…) of w/s, so that it takes Σ g·ŵ and gives back Σ grad·w.
            back = _dot(out, w_block)
            g_scales.append(-back if g is None else _dot(g, noisy) - back)

        if is_fixed:
            pass
        elif per_channel:
            if g_ratio is not None:  # s² of the channel in both sums; that of a whole layer cancels
                direct = (2 * share * (ctx.sums.real - ctx.ratio * ctx.sums.imag)).unsqueeze(-1)
                g_scales = [g + d for g, d in zip(g_scales, direct.split([len(b) for b in blocks]), strict=True)]
            for w_block, out, s, g_s in zip(blocks, grad_blocks, scales, g_scales, strict=True):
                _add_at_peaks([(w_block, out, 1), (w_block, out, -1)], s, g_s)
        else:
            found = [
                (w_block, out, sign)
                for w_block, out, extremes in zip(blocks, grad_blocks, ctx.extremes, strict=True)
                for sign, extreme in zip((-1, 1), extremes, strict=True)
                if isinstance(extreme, Tensor) or extreme == sign * scales[0]
            ]
            _add_at_peaks(found, scales[0], sum(g_scales))
        return grad.to(latent.dtype), None, None, None


_apply_uncompiled = torch.compiler.disable(_Realise.apply)


def _add_at_peaks(found: list[tuple[Tensor, Tensor, int]], s: Number, g: Number) -> None:
    """Adds the gradient of scale ``s``, given times ``s``, to the weights that set it.

    ``found`` has blocks of weights and gradients that may have such weights, each with the sign of these weights.
    """
    hits = [torch.eq(w, sign * s, out=torch.empty_like(w)) for w, _, sign in found]  # floats: bools are slow
    count = sum(_number(hit.sum(-1, keepdim=hit.ndim > 1)) for hit in hits)
    share = _divide(g, s * count)
    for (_, grad, sign), hit in zip(found, hits, strict=True):
        grad.add_(hit.mul_(sign * share))


def memory_format(w: Tensor) -> torch.memory_format:
    if w.ndim == 4 and not w.is_contiguous() and w.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _blocks(x: Tensor, per_channel: bool) -> tuple[Tensor, ...]:
    """Views of a dense tensor in memory order: flat pieces, or per channel pieces of whole rows ``[rows, n]``."""
    size = BLOCK if x.device.type == "cpu" else max(x.numel(), 1)  # elsewhere a call is a kernel launch
    if not per_channel:
        flat = x.view(-1) if x.is_contiguous() else x.as_strided((x.numel(),), (1,))
        return flat.split(size) if len(flat) > size else (flat,)
    n = x.numel() // max(len(x), 1)
    return x.as_strided((len(x), n), (n, 1)).split(max(1, size // max(n, 1)))


def _scales(
    blocks: tuple[Tensor, ...], per_channel: bool
) -> tuple[list[Number], Sequence[tuple[Number, Number]] | None]:
    """The scale of each block; and its extreme weights, if all blocks have one scale."""
    if per_channel:
        return [b.abs().amax(-1, keepdim=True) for b in blocks], None
    pairs = [b.aminmax() for b in blocks]
    if blocks[0].device.type != "cpu":
        return [torch.stack([x for pair in pairs for x in pair]).abs().amax()] * len(blocks), pairs
    extremes = [(low.item(), high.item()) for low, high in pairs]
    s = max(max(-low, high) for low, high in extremes)
    s += 0 * sum(high for _, high in extremes)  # passes on a NaN, which max() may lose
    return [s] * len(blocks), extremes


def _fixed_scales(blocks: tuple[Tensor, ...], s: float) -> list[Number]:
    """The scale of each block: s, or NaN if a weight is not finite, which clipping would hide."""
    return [s + 0 * sum(_number(b.sum()) for b in blocks)] * len(blocks)


def _hold_within(w: Tensor, s: Number, steps: int, grad: Tensor) -> None:
    """Removes the gradient of weights beyond the codes that would move them further out.

    The gradient of clipping is 0 there, so that these weights would never return.
    """
    outwards = (w > s * (1 - 1 / steps)) & (grad < 0)
    grad.masked_fill_(outwards.logical_or_((w < -s) & (grad > 0)), 0.0)


def _number(x: Tensor) -> Number:
    return x.item() if x.ndim == 0 and x.device.type == "cpu" else x


def _divide(a: Number, b: Number) -> Number:
    """a/b for b ≥ 0, and 0 where b is 0."""
    if isinstance(b, Tensor):
        return torch.where(b == 0, 0.0, a / b)
    return a / b if b else 0.0


def _dot(a: Tensor, b: Tensor) -> Number:
    return _number(torch.dot(a, b)) if a.ndim == 1 else (a * b).sum(-1, keepdim=True)


def _inverse(s: Number) -> Number:
    if isinstance(s, Tensor):
        return torch.where((s > SMALLEST_SCALE) & s.isfinite(), 1 / s, 0.0)
    return 1 / s if SMALLEST_SCALE < s < math.inf else 0.0


def _nearest(w: Tensor, s: Number, size: int, x: Tensor, index: Tensor, code_steps: int) -> None:
    """Writes the table position nearest to w/s into ``index``; ``x`` is room for floats.

    With codes (``code_steps`` above 0), nearest to the code of w/s: a position beside it may be another code's.
    """
    half, inverse = (size - 1) / 2, _inverse(s)
    if code_steps:
        torch.div(w, s, out=x.view(w.shape))
        x.nan_to_num_(0.0, 0.0, 0.0).mul_(code_steps).round_().clamp_(-code_steps, code_steps - 1)
        x.mul_(half / code_steps).add_(half + 0.5)
    elif isinstance(inverse, Tensor):
        torch.mul(w, half * inverse, out=x.view(w.shape))
        x.add_(half + 0.5).nan_to_num_(half, half, half)
    elif inverse:
        torch.add(_constant(half + 0.5), w, alpha=half * inverse, out=x)
    else:
        x.fill_(half)
    index.copy_(x)


def _on_grid(w: Tensor, s: Number, steps: int, fixed_point: bool) -> Tensor:
    """The latent weights, rounded to the nearest levels or codes."""
    # A quotient, as for chips: a product with 1/s would decide otherwise halfway between two levels.
    u = (w / s).nan_to_num_(0.0, 0.0, 0.0)  # all zero, or not finite, which s is then too
    u.mul_(steps).round_()
    return (u.clamp_(-steps, steps - 1) if fixed_point else u).div_(steps).mul_(s)


def _effective(w: Tensor, s: Number, curve: float, out: Tensor) -> None:
    """Writes the exact effective weights: w times an even polynomial in u, by Horner's rule."""
    if not curve:
        out.copy_(w)
        return
    t = (w * _inverse(s)).square_()
    leading, *coefficients = even_fit(curve)
    torch.mul(t, leading, out=out).add_(coefficients[0])
    for c in coefficients[1:]:
        out.mul_(t).add_(c)
    out.mul_(w)


def _scratch(size: int, device: torch.device) -> tuple[Tensor, ...]:
    """Buffers of floats, table positions and complex values, and views of the real and imaginary parts."""
    if device.type != "cpu" or size > BLOCK:
        return _new_scratch(size, device)
    return _scratch_of(get_ident(), size)


@lru_cache(maxsize=128)
def _scratch_of(thread: int, size: int) -> tuple[Tensor, ...]:
    """The buffers of one block, kept for each thread; smaller sizes are views of them."""
    if size < BLOCK:
        return tuple(x[:size] for x in _scratch_of(thread, BLOCK))
    with torch.inference_mode(False):  # whatever mode the first caller is in
        return _new_scratch(BLOCK, torch.device("cpu"))


def _new_scratch(size: int, device: torch.device) -> tuple[Tensor, ...]:
    values = torch.empty(size, dtype=torch.complex64, device=device)
    pairs = torch.view_as_real(values)
    x = torch.empty(size, device=device)
    index = x.view(torch.int32)  # in the place of what it is rounded from
    return x, index, values, pairs[:, 0], pairs[:, 1]


@lru_cache
def _constant(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device="cpu")


# Derived tables. Layers share them: one hardware, one age per step. (Tables are told apart by identity.)


@lru_cache(maxsize=64)
def shifted_table(noise: NoiseTable, encoding: Encoding) -> Tensor:
    """f(u) + mean + i·std."""
    return noise.packed + effective_table(len(noise), encoding, noise.packed.device)


@lru_cache(maxsize=64)
def squares_table(error: ErrorTable, encoding: Encoding) -> Tensor:
    """R(u) + i·f(u)²."""
    return torch.complex(error.value, effective_table(len(error), encoding, error.value.device).square())


@lru_cache(maxsize=64)
def slope_tables(error: ErrorTable, encoding: Encoding) -> tuple[Tensor, Tensor, Tensor]:
    """f'(u), R'(u) and (f²)'(u)."""
    device = error.slope.device
    slope = slope_table(len(error), encoding.curve, device).real.contiguous()
    return slope, error.slope.contiguous(), 2 * slope * effective_table(len(error), encoding, device)


@lru_cache
def effective_table(size: int, encoding: Encoding, device: torch.device) -> Tensor:
    """f(u), u as written."""
    u, curve = encoding.written(positions(size)), encoding.curve
    return (torch.sinh(curve * u) / math.sinh(curve) if curve else u).float().to(device)


@lru_cache
def slope_table(size: int, curve: float, device: torch.device) -> Tensor:
    """f'(u) + 0i."""
    u = positions(size)
    slope = torch.cosh(curve * u) * (curve / math.sinh(curve)) if curve else torch.ones_like(u)
    return slope.to(torch.complex64).to(device)


@lru_cache
def even_fit(curve: float) -> tuple[float, ...]:
    """Coefficients of f(u)/u in powers of u², highest first, of the lowest degree that keeps to SINH_TOLERANCE."""
    t = (np.cos(np.linspace(0, np.pi, 1025)) + 1) / 2
    x = curve * np.sqrt(t)
    target = np.where(x > 0, np.sinh(x) / np.where(x > 0, x, 1), 1) * curve / math.sinh(curve)
    for degree in range(1, 30):
        fit = np.polynomial.Chebyshev.fit(t, target, degree, domain=[0, 1])
        if np.abs(fit(t) / target - 1).max() < SINH_TOLERANCE:
            break
    return tuple(fit.convert(kind=np.polynomial.Polynomial).coef.tolist())[::-1]
