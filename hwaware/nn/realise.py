"""From latent weights to the weights of one training step: sinh transform, device noise, expected error.

With ``s = max|w|`` and ``u = w/s`` the effective weight is ``w_eff = s·f(u)``, ``f(u) = sinh(cu)/sinh(c)``; what the
device does to it is tabulated over u. All of it is one custom function that walks over the weights in blocks which stay
in the cache, forward and backward: what training adds to a layer is a handful of cheap passes over its weights.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from hwaware.nn.gaussian import gaussian_blocks

BLOCK = 32_768  # weights: a block's buffers (128 KB each) fit a core's L2 cache, and torch's cost per call stays small
SINH_TOLERANCE = 1e-6  # largest relative error of the polynomial that stands for f


@torch.compiler.disable
def realise(
    latent: Tensor, *, per_channel: bool, curve: float, noise: Tensor | None, error: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Effective weights with fresh device noise, and their expected error.

    Args:
        latent: latent weights ``[C_out, ...]``; half precision is computed in fp32.
        per_channel: whether ``s`` is the largest ``|w|`` of each output channel, or of the whole tensor.
        curve: c = rκ of the weight transform; 0 is the identity.
        noise: complex64 table over u = linspace(-1, 1, K), mean + i·std of ``(ŵ - w_eff)/s``; None: no noise. The
            nearest position counts. Standard Gaussians come from torch's global generator.
        error: complex64 table of ``R(u) = E[((ŵ - w_eff)/s)²]`` + i·dR/du, read in the same way; None: not wanted.

    Returns:
        The weights ``s·(f(u) + δ)`` with ``δ = mean + std·z``, fp32, in shape and memory format of ``latent``; and the
        normalised error ``Σ s²R(u) / Σ w_eff²`` (0-dim; 0 where all weights are zero), or None without ``error``.

    Gradients are exact through u and through ``s``, from which they reach the largest weights as they do through
    torch's ``amax`` (ties share). ``δ`` is a constant (straight-through), so the noise grows with ``s`` and its
    gradient says so. Without noise, error and curve the latent weights themselves are returned.
    """
    if noise is None and error is None and curve == 0:
        return latent, None
    return _Realise.apply(latent, per_channel, curve, noise, error)


class _Realise(torch.autograd.Function):
    # Saved for the backward pass: the latents, the realised weights (which the layer saves anyway), and a few numbers
    # per block. Everything else is recomputed there: that is cheaper than writing it to memory and reading it back.

    @staticmethod
    def forward(ctx, latent, per_channel, curve, noise, error):
        layout = _memory_format(latent)
        w = latent.float().contiguous(memory_format=layout)
        weight = torch.empty_like(w)
        w_blocks = _blocks(w, per_channel)
        scales, peaks = _scales(w_blocks, per_channel)
        gaussians = gaussian_blocks([b.numel() for b in w_blocks], w.device) if noise is not None else repeat(None)
        expected, power, scratch = [], [], _Scratch()
        for w_block, out, s, z in zip(w_blocks, _blocks(weight, per_channel), scales, gaussians, strict=False):
            u, x, index = scratch.like(w_block)
            torch.mul(w_block, _inverse(s), out=u)
            w_eff = w_block
            if curve:
                w_eff = _even_polynomial(u, *_sinh_ratio(curve, u.device), out=out, scratch=x).mul_(w_block)
            if error is not None:
                r = torch.index_select(error.real, 0, _nearest(u, len(error), x, index)).view_as(u)
                expected.append(r.sum(-1))
                power.append(_dot(w_eff, w_eff))
            if noise is not None:
                moments = torch.view_as_real(torch.index_select(noise, 0, _nearest(u, len(noise), x, index)))
                delta = torch.addcmul(moments[:, 0], moments[:, 1], z, out=x.view(-1)).view_as(u)
                torch.addcmul(w_eff, delta, s, out=out)
            elif not curve:
                out.copy_(w_block)

        ratio = None
        if error is not None:
            join = torch.cat if per_channel else lambda sums: torch.stack(sums).sum()
            s2 = torch.cat(scales).square().squeeze(-1) if per_channel else scales[0].square()
            ctx.expected, ctx.power = join(expected) * s2, join(power)
            total = ctx.power.sum()
            ctx.total = torch.where(total > 0, total, math.inf)  # a layer of zeros has no error
            ratio = ctx.expected.sum() / ctx.total
        ctx.per_channel, ctx.curve, ctx.layout, ctx.scales, ctx.peaks = per_channel, curve, layout, scales, peaks
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(latent, weight, error)
        return weight, ratio

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g_weight, g_ratio):
        latent, weight, error = ctx.saved_tensors
        per_channel, curve = ctx.per_channel, ctx.curve
        w = latent.float().contiguous(memory_format=ctx.layout)
        grad = torch.empty_like(w)
        w_blocks, grad_blocks = _blocks(w, per_channel), _blocks(grad, per_channel)
        g_blocks = weight_blocks = repeat(None)
        if g_weight is not None:
            g_blocks = _blocks(g_weight.contiguous(memory_format=ctx.layout), per_channel)
            weight_blocks = _blocks(weight, per_channel)
        table = None
        if g_ratio is not None:  # d/du of ratio, but for the factor s of each channel: see the sums in forward
            ratio = ctx.expected.sum() / ctx.total
            table = (error.imag - ratio * _power_slope(len(error), curve, error.device)) * (g_ratio / ctx.total)

        g_scales, scratch = [], _Scratch()
        for w_block, out, s, g, noisy in zip(w_blocks, grad_blocks, ctx.scales, g_blocks, weight_blocks, strict=False):
            u, x, index = scratch.like(w_block)
            torch.mul(w_block, _inverse(s), out=u)
            if g is None:
                out.zero_()
            elif curve:
                _even_polynomial(u, *_sinh_slope(curve, u.device), out=out, scratch=x).mul_(g)
            else:
                out.copy_(g)
            if table is not None:
                pull = torch.index_select(table, 0, _nearest(u, len(table), x, index)).view_as(u)
                out.addcmul_(pull, s)
            # Through s: the weights are s·(…) of w/s, so that it takes Σ g·ŵ and gives back Σ grad·w.
            g_s = -_dot(out, w_block)
            g_scales.append(g_s if g is None else g_s + _dot(g, noisy))
        _add_scale_gradient(ctx, w_blocks, grad_blocks, g_scales, g_ratio)
        return grad.to(latent.dtype), None, None, None, None


def _add_scale_gradient(ctx, w_blocks, grad_blocks, g_scales, g_ratio) -> None:
    """Adds the gradient of each scale, given times that scale in one part per block, to the weights that set it."""
    if ctx.per_channel:
        if g_ratio is not None:  # numerator and denominator of the ratio in s² of the channel, at fixed u
            shares = (ctx.expected - ctx.power * (ctx.expected.sum() / ctx.total)) / ctx.total
            parts = (2 * g_ratio * shares).split([len(b) for b in w_blocks])
            g_scales = [g + part for g, part in zip(g_scales, parts, strict=True)]
        for w, grad, s, g in zip(w_blocks, grad_blocks, ctx.scales, g_scales, strict=True):
            hits = w.abs() == s
            grad.addcmul_(hits * w.sign(), g.unsqueeze(-1) * _inverse(s) / hits.sum(-1, keepdim=True))
    else:  # the ratio does not depend on s at fixed u
        s = ctx.scales[0]
        g = torch.stack(g_scales).sum() * _inverse(s)
        candidates = [i for i, peak in enumerate(torch.stack(ctx.peaks).eq(s).tolist()) if peak]
        hits = [w_blocks[i].abs() == s for i in candidates]
        share = g / sum(h.sum() for h in hits)
        for i, h in zip(candidates, hits, strict=True):
            grad_blocks[i].addcmul_(h * w_blocks[i].sign(), share)


class _Scratch:
    """Buffers for one block, kept from block to block: u, one more of floats, one of table positions."""

    def __init__(self) -> None:
        self.buffers: tuple[Tensor, ...] = ()

    def like(self, block: Tensor) -> tuple[Tensor, ...]:
        if not self.buffers or self.buffers[0].shape != block.shape:
            self.buffers = (
                torch.empty_like(block),
                torch.empty_like(block),
                torch.empty_like(block, dtype=torch.int32),
            )
        return self.buffers


def _memory_format(w: Tensor) -> torch.memory_format:
    if w.ndim == 4 and not w.is_contiguous() and w.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _blocks(x: Tensor, per_channel: bool) -> tuple[Tensor, ...]:
    """Views of a dense tensor in memory order: flat pieces, or per channel pieces of whole rows ``[rows, n]``."""
    size = BLOCK if x.device.type == "cpu" else max(x.numel(), 1)  # elsewhere a block is a kernel launch
    if not per_channel:
        return x.as_strided((x.numel(),), (1,)).split(size)
    n = x.numel() // max(len(x), 1)
    return x.as_strided((len(x), n), (n, 1)).split(max(1, size // max(n, 1)))


def _scales(blocks: tuple[Tensor, ...], per_channel: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Scale for each block, ``[rows, 1]`` or 0-dim, and the largest magnitude in each block."""
    if per_channel:
        peaks = [b.abs().amax(-1, keepdim=True) for b in blocks]
        return peaks, peaks
    peaks = [torch.maximum(-low, high) for low, high in (b.aminmax() for b in blocks)]
    return [torch.stack(peaks).amax()] * len(blocks), peaks


def _inverse(s: Tensor) -> Tensor:
    return torch.where(s > 0, 1 / s, torch.zeros_like(s))  # zeros have u = 0


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a, b) if a.ndim == 1 else (a * b).sum(-1)


def _nearest(u: Tensor, size: int, x: Tensor, index: Tensor) -> Tensor:
    """Flat index of the table position nearest to u."""
    half = (size - 1) / 2
    return index.copy_(torch.mul(u, half, out=x).add_(half + 0.5)).view(-1)


def _even_polynomial(
    u: Tensor, coefficients: tuple[Tensor, ...], leading: float, out: Tensor, scratch: Tensor
) -> Tensor:
    """Polynomial in u² by Horner's rule, one pass per degree: ``leading`` first, then ``coefficients`` downwards."""
    t = torch.mul(u, u, out=scratch)
    torch.add(coefficients[0], t, alpha=leading, out=out)
    for c in coefficients[1:]:
        torch.addcmul(c, out, t, out=out)
    return out


@lru_cache
def _odd_fit(curve: float) -> np.ndarray:
    """Coefficients of f(u)/u in powers of u², of the lowest degree that keeps to SINH_TOLERANCE."""
    t = (np.cos(np.linspace(0, np.pi, 1025)) + 1) / 2
    x = curve * np.sqrt(t)
    target = np.where(x > 0, np.sinh(x) / np.where(x > 0, x, 1), 1) * curve / math.sinh(curve)
    for degree in range(1, 30):
        fit = np.polynomial.Chebyshev.fit(t, target, degree, domain=[0, 1])
        if np.abs(fit(t) / target - 1).max() < SINH_TOLERANCE:
            break
    return fit.convert(kind=np.polynomial.Polynomial).coef


def _horner(coefficients: np.ndarray, device: torch.device) -> tuple[tuple[Tensor, ...], float]:
    tensors = tuple(torch.tensor(c, dtype=torch.float32, device=device) for c in coefficients[-2::-1])
    return tensors, float(coefficients[-1])


@lru_cache
def _sinh_ratio(curve: float, device: torch.device) -> tuple[tuple[Tensor, ...], float]:
    """f(u)/u."""
    return _horner(_odd_fit(curve), device)


@lru_cache
def _sinh_slope(curve: float, device: torch.device) -> tuple[tuple[Tensor, ...], float]:
    """f'(u): the exact derivative of what the forward pass computes."""
    fit = _odd_fit(curve)
    return _horner(fit * (2 * np.arange(len(fit)) + 1), device)


@lru_cache
def _power_slope(size: int, curve: float, device: torch.device) -> Tensor:
    """d/du f(u)² at the positions of a table."""
    u = torch.linspace(-1, 1, size, dtype=torch.float64, device="cpu")
    slope = torch.sinh(2 * curve * u) * (curve / math.sinh(curve) ** 2) if curve else 2 * u
    return slope.float().to(device)
