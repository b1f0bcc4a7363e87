"""The weights of all layers of a training step at once, for GPUs: about 130 calls a step instead of 90 a layer.

It does the look-ups of :mod:`hwaware.nn.weights.fused` on one tensor of all layers' latents. A *segment* is a layer or
an output channel with its own scale. Each segment is padded with zeros to whole *blocks*, the rows of that tensor, so
that sums and maxima over segments are those over rows, always in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
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
from hwaware.nn.weights.tables import ErrorTable, NoiseTable

#: Elements of a block: a layer is much longer, a channel may have 27.
_BLOCK_OF_LAYER, _BLOCK_OF_CHANNEL = 1024, 64


def is_supported(encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None) -> bool:
    """Whether :class:`Together` supports this case: noise, tables of one length, scales that follow the weights."""
    if noise is None or encoding.scaling.fixed is not None:
        return False
    return error is None or len(error) == len(noise)


class Layout(NamedTuple):
    """Which blocks, segments and layers belong together. Rows of slots are padded with the number after the last.

    Attributes:
        segment_of, blocks_of: a block's segment ``[blocks]``, a segment's blocks ``[segments, slots]``.
        layer_of, segments_of: a segment's layer ``[segments]``, a layer's segments ``[layers, slots]``.
        padding: zeros that fill up a segment ``[segments, 1]``.
    """

    segment_of: Tensor
    blocks_of: Tensor
    layer_of: Tensor
    segments_of: Tensor
    padding: Tensor


class Together:
    """Computes the weights of layers with the same hardware and torch device.

    Args:
        latents: latent weights of each layer, ``[C_out, ...]``; their shapes do not change.
        encoding: encoding of the weights.
        compiled: whether ``torch.compile`` fuses the passes of the two functions.
    """

    def __init__(self, latents: Sequence[Tensor], encoding: Encoding, compiled: bool = False) -> None:
        self.encoding, self.compiled = encoding, compiled
        per_channel = encoding.scaling.per_channel
        self._block = _BLOCK_OF_CHANNEL if per_channel else _BLOCK_OF_LAYER
        self._rows = [len(x) if per_channel else 1 for x in latents]
        sizes = [x.numel() // n for x, n in zip(latents, self._rows, strict=True)]
        self._widths = [-(-size // self._block) * self._block for size in sizes]
        rows = torch.tensor(self._rows)
        of_segment = torch.tensor(self._widths).div(self._block, rounding_mode="floor").repeat_interleave(rows)
        padding = torch.tensor(self._widths) - torch.tensor(sizes)
        layout = Layout(
            segment_of=torch.arange(len(of_segment)).repeat_interleave(of_segment),
            blocks_of=_slots(of_segment),
            layer_of=torch.arange(len(rows)).repeat_interleave(rows),
            segments_of=_slots(rows),
            padding=padding.repeat_interleave(rows).unsqueeze(-1),
        )
        self.layout = Layout(*(tensor.to(latents[0].device) for tensor in layout))

    def realise(
        self, latents: Sequence[Tensor], noise: NoiseTable, error: ErrorTable | None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """The results of :func:`hwaware.nn.weights.fused.realise` for each layer, except for fp32 rounding.

        Noise is drawn once for all layers, by the torch device's generator.
        """
        *weights, ratios = _Realise.apply(self, noise, error, *latents)
        return list(zip(weights, repeat(None) if error is None else ratios.unbind()))  # noqa: B905 - one is endless

    @property
    def functions(self) -> tuple[Any, Any]:
        """Forward and backward."""
        return _compiled() if self.compiled else (_forward, _backward)

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors of the latents' shapes as one, ``[blocks, elements]``, in fp32."""
        parts = []
        for x, rows, width in zip(tensors, self._rows, self._widths, strict=True):
            x = x.float().contiguous(memory_format=memory_format(x))
            size = x.numel() // rows
            part = x.as_strided((rows, size), (size, 1))
            parts.append((part if size == width else F.pad(part, (0, width - size))).view(-1, self._block))
        return torch.cat(parts)

    def scatter(self, x: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
        """The inverse of :meth:`gather`, in the latents' memory formats; views if possible."""
        parts = x.view(-1).split([rows * width for rows, width in zip(self._rows, self._widths, strict=True)])
        return [
            _shaped(part.view(rows, width)[:, : one.numel() // rows], one)
            for part, rows, width, one in zip(parts, self._rows, self._widths, like, strict=True)
        ]


class _Realise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Together, noise: NoiseTable, error: ErrorTable | None, *latents: Tensor
    ) -> tuple[Tensor | None, ...]:
        x = plan.gather(latents)
        z = torch.randn(x.shape, device=x.device)
        squares = None if error is None else torch.view_as_real(squares_table(error, plan.encoding))
        table, code_steps = torch.view_as_real(shifted_table(noise, plan.encoding)), _code_steps(plan.encoding)
        weight, s, sums, ratios = plan.functions[0](x, table, squares, z, code_steps, plan.layout)
        ctx.plan, ctx.error = plan, error
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weight, s, sums, *latents)
        return *plan.scatter(weight, latents), ratios

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        weight, s, sums, *latents = ctx.saved_tensors
        plan, encoding = ctx.plan, ctx.plan.encoding
        *of_weights, of_ratios = gradients
        x = plan.gather(latents)
        given = [torch.zeros_like(w) if g is None else g for g, w in zip(of_weights, latents, strict=True)]
        gains: Tensor | None = None
        if of_ratios is None:
            slope = slope_table(SLOPE_SIZE, encoding.curve, x.device).real.contiguous()
        else:
            slope, gain, power_gain = slope_tables(ctx.error, encoding)
            gains = _pair(gain, power_gain)
        rest = (sums, of_ratios, slope, gains, _code_steps(encoding))
        grad = plan.functions[1](x, weight, plan.gather(given), s, *rest, plan.layout)
        found = [g.to(latent.dtype) for g, latent in zip(plan.scatter(grad, latents), latents, strict=True)]
        return None, None, None, *found


def _forward(
    x: Tensor,
    table: Tensor,
    squares: Tensor | None,
    z: Tensor,
    code_steps: int,
    layout: Layout,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Weights, scales ``[segments, 1]``, sums of s²R and of (s·f)² over each, and each layer's ratio of the two."""
    s = _filled(x.abs().amax(-1))[layout.blocks_of].amax(-1, keepdim=True)
    of_block = s[layout.segment_of]
    index = _nearest(x, of_block, len(table), code_steps)
    weight = of_block * (table[index, 0] + table[index, 1] * z)
    if squares is None:
        return weight, s, None, None
    of_zero = squares[len(squares) // 2]  # the contribution of each element of the padding
    both = [_over(squares[index, k].sum(-1), layout.blocks_of) - layout.padding * of_zero[k] for k in (0, 1)]
    sums = torch.cat(both, -1) * s**2
    return weight, s, sums, _quotient(*_of_layers(sums, layout)).squeeze(-1)


def _backward(
    x: Tensor,
    weight: Tensor,
    g: Tensor,
    s: Tensor,
    sums: Tensor | None,
    of_ratios: Tensor | None,
    slopes: Tensor,
    gains: Tensor | None,
    code_steps: int,
    layout: Layout,
) -> Tensor:
    """Gradient of the latents: through u, and through the scales to the weights that set them."""
    of_block = s[layout.segment_of]
    index = _nearest(x, of_block, len(slopes), code_steps)
    grad = slopes[index] * g
    direct: Tensor | float = 0.0
    if sums is not None and of_ratios is not None and gains is not None:
        expected, power = _of_layers(sums, layout)
        ratio = _quotient(expected, power)[layout.layer_of]
        share = _quotient(of_ratios.unsqueeze(-1), power)[layout.layer_of]
        pull = gains[index, 0] - gains[index, 1] * ratio[layout.segment_of]
        grad = grad + pull * (share * s)[layout.segment_of]
        direct = 2 * share * (sums[:, :1] - ratio * sums[:, 1:])  # s² in both sums; 0 where one scale is for all
    # Through s, times s: the weights are s·(…) of w/s, so that it takes Σ g·ŵ and gives back Σ grad·w.
    through = _over((g * weight).sum(-1), layout.blocks_of) - _over((grad * x).sum(-1), layout.blocks_of) + direct
    peaks = x.abs() == of_block
    count = s * _over(peaks.sum(-1).to(s.dtype), layout.blocks_of)
    share_of_peak = _quotient(through, count)[layout.segment_of]
    return torch.where(peaks, grad + x.sign() * share_of_peak, grad)


def _of_layers(sums: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Sums of s²R and of (s·f)² over each layer, ``[layers, 1]``."""
    return _over(sums[:, 0], layout.segments_of), _over(sums[:, 1], layout.segments_of)


def _over(values: Tensor, slots: Tensor) -> Tensor:
    """Sums of the values at each row's slots, ``[rows, 1]``."""
    return _filled(values)[slots].sum(-1, keepdim=True)


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and 0 where b is 0."""
    return (a / b).masked_fill_(b == 0, 0.0)


def _filled(values: Tensor) -> Tensor:
    """Values, and the zero that slots beyond a row's end point to."""
    return F.pad(values, (0, 1))


def _nearest(x: Tensor, s: Tensor, size: int, code_steps: int) -> Tensor:
    """The table position nearest to x/s, or to its code."""
    half = (size - 1) / 2
    if code_steps:
        code = torch.nan_to_num(x / s, 0.0, 0.0, 0.0).mul(code_steps).round().clamp(-code_steps, code_steps - 1)
        position = code * (half / code_steps) + (half + 0.5)
    else:
        inverse = (1 / s).masked_fill_((s <= SMALLEST_SCALE) | ~s.isfinite(), 0.0)
        position = torch.nan_to_num(x * (half * inverse) + (half + 0.5), half, half, half)
    return position.to(torch.int32)


@lru_cache
def _compiled() -> tuple[Any, Any]:
    return tuple(torch.compile(f, dynamic=True, fullgraph=True) for f in (_forward, _backward))  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _pair(first: Tensor, second: Tensor) -> Tensor:
    """As columns, so that one read of memory gives both. (Tables are told apart by identity.)"""
    return torch.stack([first, second], -1)


def _slots(counts: Tensor) -> Tensor:
    """For each of some runs of numbers 0, 1, 2, … of these lengths: its numbers, filled up with that after the last."""
    ends = counts.cumsum(0).unsqueeze(-1)
    numbers = ends - counts.unsqueeze(-1) + torch.arange(int(counts.max()))
    return torch.where(numbers < ends, numbers, int(counts.sum()))


def _shaped(rows: Tensor, like: Tensor) -> Tensor:
    """Rows as a tensor of a latent's shape and memory format."""
    rows = rows.contiguous()
    if memory_format(like) is torch.contiguous_format:
        return rows.view(like.shape)
    n, channels, height, width = like.shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def _code_steps(encoding: Encoding) -> int:
    return encoding.steps if encoding.format.is_fixed_point else 0
