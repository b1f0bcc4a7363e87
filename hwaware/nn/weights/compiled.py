"""The weights of one training step on a CPU by ``torch.compile``: one forward and one backward pass per layer.

The result is defined in :mod:`hwaware.nn.weights.definition`. f is a polynomial. The moments of the noise and the
expected error are tables with linear interpolation. A look-up costs as much as all other arithmetic of a weight, so
there is one look-up for each weight and pass: the entries of a position are packed into one integer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hwaware.hardware import Encoding
from hwaware.nn.weights import fused
from hwaware.nn.weights.fused import even_fit, memory_format
from hwaware.nn.weights.gaussian import gaussian_blocks
from hwaware.nn.weights.tables import ErrorTable, NoiseTable

_FINE, _COARSE = 2**16 - 1, 2**8 - 1  # largest packed value, and largest packed slope between two positions


def realise(
    latent: Tensor, encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None
) -> tuple[Tensor, Tensor | None]:
    """As :func:`hwaware.nn.weights.fused.realise`, but closer to the definition; calls it for unsupported cases.

    Raises:
        Exception: any error of the compiler.
    """
    if not is_supported(encoding, noise, error) or latent.device.type != "cpu" or not latent.numel():
        return fused.realise(latent, encoding, noise, error)
    apply = _apply_uncompiled if torch.compiler.is_compiling() else _Realise.apply
    return apply(latent, encoding, noise, error)


def is_supported(encoding: Encoding, noise: NoiseTable | None, error: ErrorTable | None) -> bool:
    """Whether there is noise, tables have one length, weights are continuous, and scales follow the weights."""
    if noise is None or encoding.scaling.fixed is not None or encoding.steps:
        return False
    return error is None or len(error) == len(noise)


class _Realise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, latent: Tensor, encoding: Encoding, noise: NoiseTable, error: ErrorTable | None
    ) -> tuple[Tensor, Tensor | None]:
        x = _rows(latent, encoding)
        (z,) = gaussian_blocks([latent.numel()], latent.device)
        z = z.clone().view(x.shape)  # so never with an offset, with and without which it would be compiled twice
        powers, _ = _powers(encoding.curve)
        weight, *ctx.about = _compiled()[0](x, z, *_values(noise, error), powers, error is not None)
        ctx.encoding, ctx.error, ctx.layout = encoding, error, memory_format(latent)
        ctx.set_materialize_grads(False)
        weight = _like(weight, latent)
        ctx.save_for_backward(latent, weight)
        return weight, None if error is None else ctx.about[-1].clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_weight: Tensor | None, g_ratio: Tensor | None) -> tuple[Tensor, None, None, None]:
        latent, weight = ctx.saved_tensors
        x, noisy = (_rows(w, ctx.encoding, ctx.layout) for w in (latent, weight))
        g = torch.zeros_like(x) if g_weight is None else _rows(g_weight, ctx.encoding, ctx.layout)
        tables = (None, None) if g_ratio is None else _slopes(ctx.error)
        given = x, noisy, g, *ctx.about, g_ratio, *tables, *_powers(ctx.encoding.curve)
        grad, of_peak, place, count, ties = _compiled()[1](*given)
        if ties:  # they share
            grad += torch.where(x.abs() == ctx.about[0], of_peak / count * x.sign(), 0.0)
        else:
            grad.scatter_add_(1, place, of_peak)
        return _like(grad, latent).to(latent.dtype), None, None, None


_apply_uncompiled = torch.compiler.disable(_Realise.apply)


def _forward(
    x: Tensor, z: Tensor, packed: Tensor, units: Tensor, powers: Tensor, with_error: bool
) -> tuple[Tensor | None, ...]:
    """Weights ``[rows, n]``; of each row ``[rows, 1]`` the scale, its inverse, and the sums of s²R and of (s·f)²; of
    all rows the latter, and the ratio of the two."""
    s = x.abs().amax(-1, keepdim=True)
    inverse = torch.where((s > 1e-30) & s.isfinite(), 1 / s, 0.0)  # fused.SMALLEST_SCALE, which would be no constant
    u = x * inverse
    at, beyond = _place(u, len(packed))
    both = packed[at]
    low, high = both.to(torch.int32), (both >> 32).to(torch.int32)
    mean = units[0] + units[1] * _bits(low, 0, _FINE) + (units[2] + units[3] * _bits(high, 16, _COARSE)) * beyond
    std = units[4] + units[5] * _bits(low, 16, _FINE) + (units[6] + units[7] * _bits(high, 24, _COARSE)) * beyond
    f = u * _polynomial(powers, u)
    weight = s * (f + mean + std * z.float())
    if not with_error:
        return weight, s, inverse, None, None, None, None
    r = units[8] + units[9] * _bits(high, 0, _FINE)
    expected, power = (one.sum(-1, keepdim=True) * s.square() for one in (r, f.square()))
    total = power.sum()
    return weight, s, inverse, expected, power, total, _quotient(expected.sum(), total)


def _backward(
    x: Tensor,
    weight: Tensor,
    g: Tensor,
    s: Tensor,
    inverse: Tensor,
    expected: Tensor | None,
    power: Tensor | None,
    total: Tensor | None,
    ratio: Tensor | None,
    g_ratio: Tensor | None,
    packed: Tensor | None,
    units: Tensor | None,
    powers: Tensor,
    slope_powers: Tensor,
) -> tuple[Tensor, ...]:
    """Gradient of the latents through u; and for each row the additional gradient of the weight that sets its scale,
    the place of that weight, the number of such weights, and whether a row has several, which share the gradient."""
    u = x * inverse
    slope = _polynomial(slope_powers, u)  # of f
    grad = slope * g
    direct: Tensor | float = 0.0
    if g_ratio is not None and packed is not None and units is not None:
        assert expected is not None and power is not None and total is not None and ratio is not None
        share = _quotient(g_ratio, total)
        at, beyond = _place(u, len(packed))
        both = packed[at]
        gain = units[0] + units[1] * _bits(both, 0, _FINE) + (units[2] + units[3] * _bits(both, 16, _FINE)) * beyond
        grad = grad + share * s * (gain - 2 * ratio * (slope * u * _polynomial(powers, u)))
        direct = 2 * share * (expected - ratio * power)  # s² is in both sums; 0 for a whole layer
    # Through s, times s: the weights are s·(…) of w/s, so that it takes Σ g·ŵ and gives back Σ grad·w.
    through = (g * weight).sum(-1, keepdim=True) - (grad * x).sum(-1, keepdim=True) + direct
    peaks = x.abs() == s
    places = torch.where(peaks, torch.arange(x.shape[-1], dtype=torch.int32), 0).sum(
        -1, keepdim=True, dtype=torch.int32
    )
    place = places.clamp(0, x.shape[-1] - 1).to(torch.int64)
    count = peaks.float().sum(-1, keepdim=True)
    ties = ((count > 1) & (s > 0)).any()
    of_peaks = torch.where(peaks, x, 0.0).sum(-1, keepdim=True)  # ±s, where it is one
    return grad, _quotient(through, torch.where(ties, s, of_peaks)), place, count, ties


@lru_cache
def _compiled() -> tuple[Any, Any]:
    options: dict[str, Any] = {
        "assert_indirect_indexing": False,  # places are clamped; to check them again costs more than the look-up
        "realize_opcount_threshold": 1000,  # all in one loop: nothing is written to memory to be read once more
        "realize_reads_threshold": 1000,
        "realize_acc_reads_threshold": 1000,
    }
    return tuple(torch.compile(f, dynamic=True, options=options) for f in (_forward, _backward))  # type: ignore[return-value]


def _place(u: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The last of ``size`` even positions of [-1, 1) that is not beyond u, and how far beyond it u is."""
    half = size / 2
    position = u * half + half
    at = position.to(torch.int32).clamp(0, size - 1)  # as whole numbers, which a NaN becomes, too
    return at, position - at


def _bits(packed: Tensor, shift: int, largest: int) -> Tensor:
    return ((packed >> shift) & largest).float()


def _polynomial(powers: Tensor, u: Tensor) -> Tensor:
    """In u², lowest power first, by Horner's rule."""
    t, value = u.square(), powers[-1].expand_as(u)
    for k in range(len(powers) - 2, -1, -1):
        value = value * t + powers[k]
    return value


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """a/b, and 0 where b is 0."""
    return torch.where(b == 0, 0.0, a / b)


def _rows(x: Tensor, encoding: Encoding, layout: torch.memory_format | None = None) -> Tensor:
    """Weights in memory order, fp32, a row for each scale."""
    x = x.detach().float().contiguous(memory_format=layout or memory_format(x))
    rows = len(x) if encoding.scaling.per_channel else 1
    return x.as_strided((rows, x.numel() // rows), (x.numel() // rows, 1))


def _like(rows: Tensor, latent: Tensor) -> Tensor:
    """The reverse: a view."""
    if memory_format(latent) is torch.contiguous_format:
        return rows.view(latent.shape)
    n, channels, height, width = latent.shape
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


# Tables as the functions read them. (They are told apart by identity.)


@lru_cache(maxsize=8)
def _values(noise: NoiseTable, error: ErrorTable | None) -> tuple[Tensor, Tensor]:
    """Mean and std with their slopes, and R, after each position: packed into int64 ``[K - 1]``, and their units."""
    laws = torch.view_as_real(noise.packed).T
    values, of_values = _whole(laws[:, :-1], _FINE)
    slopes, of_slopes = _whole(laws.diff(dim=1), _COARSE)
    packed = values[0] | values[1] << 16 | slopes[0] << 48 | slopes[1] << 56
    units = [of_values[0], of_slopes[0], of_values[1], of_slopes[1]]
    if error is not None:
        (r,), of_r = _whole((error.value[:-1] + error.value[1:]).unsqueeze(0) / 2, _FINE)
        packed |= r << 32
        units.append(of_r[0])
    return _constant(packed), _constant(torch.cat(units))


@lru_cache(maxsize=8)
def _slopes(error: ErrorTable) -> tuple[Tensor, Tensor]:
    """R'(u) with its slope, packed into int32 ``[K - 1]``, and their units."""
    (values, slopes), units = _whole(torch.stack([error.slope[:-1], error.slope.diff()]), _FINE)
    return _constant((values | slopes << 16).to(torch.int32)), _constant(units.flatten())


def _whole(x: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Rows as integers from 0 to ``largest``, and the smallest value and the unit of each row."""
    low, high = x.aminmax(dim=1, keepdim=True)
    unit = ((high - low) / largest).clamp_min(torch.finfo(x.dtype).tiny)
    return ((x - low) / unit).round().to(torch.int64), torch.cat([low, unit], 1)


@lru_cache
def _powers(curve: float) -> tuple[Tensor, Tensor]:
    """Coefficients of f(u)/u and of f'(u) in powers of u², lowest first."""
    fit = torch.tensor(even_fit(curve)[::-1] if curve else (1.0,), dtype=torch.float64, device="cpu")
    return tuple(_constant(x.float()) for x in (fit, fit * torch.arange(1, 2 * len(fit), 2)))  # type: ignore[return-value]


def _constant(x: Tensor) -> Tensor:
    """A tensor whose size the compiler may take as constant."""
    torch._dynamo.mark_static(x)
    return x
