"""DACs and ADCs in the forward pass: rounding, clipping and noise, with few passes over memory.

:mod:`hwaware.hardware.crossbar.converters` defines what they compute. Here it is one custom function that processes a
tensor in blocks that stay in the cache. It keeps one byte per value for the backward pass: whether the value was
clipped and, if ranges are learned, its rounding error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from hwaware.hardware.crossbar import Converters
from hwaware.hardware.encoding import curve as iv
from hwaware.nn.weights.fused import memory_format
from hwaware.nn.weights.gaussian import gaussian_blocks

_SMALLEST = 1e-30
_BLOCK = 65_536  # values: a block's buffers (512 kB) stay in the cache between passes

Limit = float | Tensor
"""A range, in the units of the converted signal; a 0-dim tensor if it is learned."""


def driven(converters: Converters, x: Tensor, x_max: Limit) -> Tensor:
    """The effective row inputs for ``x`` after the DAC and the I-V curve (rounded, clipped), in the units of ``x``."""
    if converters.dac_bits is not None:
        x = _convert(x, None, x_max, converters.dac_bits, 0.0, None, x.dtype)
    elif converters.input_kappa is not None:
        x = x.clamp(-x_max, x_max)  # type: ignore[arg-type]  # both are tensors, or neither is
    if converters.input_kappa is not None:
        x = iv.bent_input(x, x_max, converters.input_range * converters.input_kappa)
    return x


def digits(x: Tensor, x_max: Limit, bits: int, at_a_time: int) -> list[Tensor]:
    """Slices of the bits of rounded inputs, lowest first, in the units of ``x``; they add up to ``x``.

    Each slice has the sign of the input. The gradient is shared evenly between slices.

    Args:
        x: inputs from :func:`driven`.
        x_max: range of the inputs.
        bits: bits of the DAC, sign included.
        at_a_time: bits of a slice.
    """
    half = 2 ** (bits - 1) - 1
    with torch.no_grad():
        codes = (x.float().abs() * (half / x_max)).round_().int()
        step = x.sign() * (x_max / half)
    n = -(-(bits - 1) // at_a_time)
    through = (x - x.detach()) / n
    slices = ((codes >> (at_a_time * k)) & (2**at_a_time - 1) for k in range(n))
    return [(digit * 2 ** (at_a_time * k) * step).to(x.dtype) + through for k, digit in enumerate(slices)]


def read(
    converters: Converters,
    sums: Iterable[Tensor],
    y_max: Sequence[Limit],
    noisy: bool,
    draws: torch.Generator | None = None,
) -> Tensor:
    """The sum over arrays of their converted outputs: each with noise, rounded and clipped.

    Args:
        converters: converters of the arrays.
        sums: column sums of each array, without bias.
        y_max: full scales at r = 1, one for each array.
        noisy: whether to add output noise.
        draws: generator of the noise; None: the pool of training noise.
    """
    sigma = converters.output_noise if noisy else 0.0
    total: Tensor | None = None
    dtype = None
    for y, limit in zip(sums, y_max, strict=True):
        dtype = dtype or y.dtype
        # Summed in single precision from the second array on: half precision is hardly finer than a converter.
        kept = dtype if len(y_max) == 1 else torch.float32
        if converters.adc_bits is None and not sigma:
            total = y if total is None else total + y
        else:
            full = limit / converters.input_range
            total = _convert(y, total, full, converters.adc_bits, sigma, draws, kept)
    assert total is not None and dtype is not None  # a layer has at least one array
    return total.to(dtype)


def _convert(
    x: Tensor,
    total: Tensor | None,
    limit: Limit,
    bits: int | None,
    sigma: float,
    draws: torch.Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    half = None if bits is None else 2 ** (bits - 1) - 1
    if torch.compiler.is_compiling():
        found = _by_definition(x, limit, half, sigma, draws).to(dtype)
        return found if total is None else total + found
    result: Tensor = _Convert.apply(x, total, limit, half, sigma, draws, dtype)
    return result


def _by_definition(x: Tensor, limit: Limit, half: int | None, sigma: float, draws: torch.Generator | None) -> Tensor:
    x = x.float()
    if sigma:
        x = x + sigma * limit * torch.randn(x.shape, generator=draws, device=x.device)
    if half is None:
        return x
    steps = x * (half / limit)
    rounded = steps + (steps.round() - steps).detach()
    return rounded.clamp(-half, half) * (limit / half)


class _Convert(torch.autograd.Function):
    """``total`` plus the converted ``x``; overwrites ``total``.

    The gradient of a range is that of learned step sizes (LSQ, arXiv 1902.08153): clipped values move with the range,
    others in proportion to their rounding error. It is not scaled down, since the logarithms of ranges are learned.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        total: Tensor | None,
        limit: Limit,
        half: int | None,
        sigma: float,
        draws: torch.Generator | None,
        dtype: torch.dtype,
    ) -> Tensor:
        learned = isinstance(limit, Tensor) and ctx.needs_input_grad[2]
        if isinstance(limit, Tensor) and limit.device.type == "cpu":
            limit = max(limit.item(), _SMALLEST)  # a learned range may vanish
        form = memory_format(x)
        x = x.contiguous(memory_format=form)
        if total is None:
            out = torch.empty_like(x, dtype=dtype, memory_format=form)
        else:
            out = total
            ctx.mark_dirty(total)
        cut = None
        if half is not None and (learned or ctx.needs_input_grad[0]):
            cut = torch.empty_like(x, dtype=torch.int8 if learned else torch.bool, memory_format=form)
        span, step = (1.0, limit) if half is None else (half, limit / half)
        sizes = [len(block) for block in _blocks(x)]
        noise: Iterator[Tensor | None] = _noise(x, sizes, draws) if sigma else repeat(None)
        cuts: Iterable[Tensor | None] = repeat(None) if cut is None else _blocks(cut)
        steps = torch.empty(max(sizes, default=0), dtype=torch.float32, device=x.device)
        kept = torch.empty_like(steps)
        for block, result, z, code in zip(_blocks(x), _blocks(out), noise, cuts, strict=False):
            # In steps of the converter.
            t, q = steps[: len(block)], kept[: len(block)]
            if block.dtype == t.dtype:
                torch.mul(block, 1 / step, out=t)
            else:
                t.copy_(block).mul_(1 / step)
            if z is not None:
                t.add_(z, alpha=sigma * span)
            if half is None:
                q = t
            else:
                if learned:
                    torch.round(t, out=q).clamp_(-half, half)
                else:
                    torch.clamp(t.round_(), -half, half, out=q)
                if learned and code is not None:
                    _encode(t, q, half, code)
                elif code is not None:
                    torch.ne(t, q, out=code)
            if total is not None:
                result.add_(q.mul_(step))
            elif result.dtype == q.dtype:
                torch.mul(q, step, out=result)
            else:
                result.copy_(q.mul_(step))
        ctx.learned, ctx.dtype, ctx.half = learned, x.dtype, half
        ctx.save_for_backward(*(() if cut is None else (cut,)))
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        of_x, of_limit = g, None
        for cut in ctx.saved_tensors:
            if ctx.learned:
                codes, cut = cut, cut.abs() == _CUT
                of_rounding = codes.to(g.dtype) * (-1 / (2 * _STEPS * ctx.half))
                of_limit = (g * torch.where(cut, codes.sign().to(g.dtype), of_rounding)).sum()
            of_x = g.masked_fill(cut, 0.0)
        of_total = g if ctx.needs_input_grad[1] else None
        return of_x.to(ctx.dtype), of_total, of_limit, None, None, None, None


#: Code of a rounding error in one byte for learned ranges: parts of half a step, and the code of clipped values.
_STEPS, _CUT = 126, 127


def _encode(steps: Tensor, kept: Tensor, half: int, code: Tensor) -> None:
    """Writes rounding errors into ``code``; for clipped values, their sign."""
    error = steps - kept  # below half a step except for clipped values
    beyond = steps.round().abs_() > half
    error = torch.where(beyond, error.sign() * _CUT, (error * (2 * _STEPS)).round_().clamp_(-_STEPS, _STEPS))
    code.copy_(error)


def _noise(x: Tensor, sizes: Sequence[int], draws: torch.Generator | None) -> Iterator[Tensor]:
    if draws is None:
        return (z.float() for z in gaussian_blocks(sizes, x.device))
    z = torch.randn(x.shape, generator=draws, device=x.device, dtype=torch.float32)
    return iter(_blocks(z.contiguous(memory_format=memory_format(x))))


def _blocks(x: Tensor) -> tuple[Tensor, ...]:
    """Views of a dense tensor in memory order, flat."""
    flat = x.view(-1) if x.is_contiguous() else x.as_strided((x.numel(),), (1,))
    return flat.split(_BLOCK if x.device.type == "cpu" else max(x.numel(), 1))
