"""The compiled functions against the definition in double precision, and against numpy's Gaussians of the same bits."""

import math

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from hwaware.hardware import Codes, Levels
from hwaware.nn.weights import compiled, fused, native
from hwaware.nn.weights.compiled import PIECE, is_supported, realise
from hwaware.nn.weights.tables import NoiseTable
from tests.nn.weights.test_fused import SHAPES, K, close, error_table, gradients, held, latents, noise_table, reference

try:
    native.library()
except OSError as error:
    pytest.skip(f"not compiled: {error}", allow_module_level=True)


def draws(latent):
    """The Gaussians that the next realise() will use, without using them up."""
    state = torch.get_rng_state()
    z = native.gaussians(compiled._draw_key(), latent.numel()).view_as(latent)
    torch.set_rng_state(state)
    return z


def philox(key, size):
    """Random bits ``[size, 4]`` of counters 0 to ``size - 1``, as the paper defines them."""
    low = np.uint64(0xFFFFFFFF)
    x = np.zeros((4, size), np.uint64)
    x[0] = np.arange(size)
    keys = np.uint64(key) & low, np.uint64(key) >> np.uint64(32)
    for i in range(10):
        a, c = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        first, second = ((int(k) + i * w) % 2**32 for k, w in zip(keys, (0x9E3779B9, 0xBB67AE85), strict=True))
        x = np.stack([
            (c >> np.uint64(32)) ^ x[1] ^ np.uint64(first), c & low,
            (a >> np.uint64(32)) ^ x[3] ^ np.uint64(second), a & low,
        ])  # fmt: skip
    return x.T


def test_philox_is_that_of_the_paper():
    """Known answers of Random123."""
    assert [f"{x:08x}" for x in philox(0, 1)[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_gaussians_are_those_of_the_bits():
    key, blocks = 0x299F31D0082EFA98, 40
    bits = philox(key, 32 * blocks).reshape(blocks, 32, 4).transpose(0, 2, 1).reshape(blocks, 128)
    radius = np.sqrt(-2 * np.log(((bits >> 14) + 0.5) / 2**18)) * np.where(bits & 1, -1, 1)
    angle = (((bits >> 1) % 2**13) - 4095.5) * math.pi / 2**13
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], -1).ravel()
    found = native.gaussians(key, 256 * blocks - 7)
    np.testing.assert_allclose(found, expected[:-7], atol=2e-5)


def test_gaussians_are_standard_and_independent():
    z = native.gaussians(5, 2**20).double()
    n = len(z)
    moments = [(z**k).mean().item() for k in (1, 2, 3, 4)]
    for found, expected, of_square in zip(moments, (0, 1, 0, 3), (1, 3, 15, 105), strict=True):
        assert abs(found - expected) < 5 * (of_square / n) ** 0.5
    # Kolmogorov and Smirnov: the distance to the normal distribution, 1.63/√n in one of a hundred.
    distance = (torch.special.ndtr(z.sort().values) - (torch.arange(n) + 0.5) / n).abs().max()
    assert distance < 1.63 / n**0.5
    for lag in (1, 2, 31, 32, 64, 128, 255, 256, 257, 4096):
        assert abs((z[lag:] * z[:-lag]).mean()) < 5 / n**0.5
        assert abs((z[lag:].square() * z[:-lag].square()).mean() - 1) < 5 * (8 / n) ** 0.5
    for key in (4, 6, 5 + 2**32, 5 + 2**63):
        assert abs((z * native.gaussians(key, n)).mean()) < 5 / n**0.5


@pytest.mark.parametrize("shape", [*SHAPES, (2, PIECE // 2 + 300)])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("curve", [0.0, 2.0])
def test_weights_error_and_gradients(shape, per_channel, curve):
    latent, encoding = latents(*shape), held(per_channel, curve)
    z = draws(latent)
    ours, theirs = realise(latent, encoding, noise_table(), error_table()), reference(latent, encoding, z)
    close(ours[0], theirs[0], 1e-4)  # f is looked up, to half a step of 2/K
    close(ours[1], theirs[1], 5e-5)
    for grad, expected in gradients(ours, theirs, latent):
        close(grad, expected, 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_without_an_error(per_channel):
    latent, encoding = latents(300, 400), held(per_channel)
    z = draws(latent)
    weight, none = realise(latent, encoding, noise_table(), None)
    expected, _ = reference(latent, encoding, z)
    assert none is None
    g = torch.randn(300, 400)
    close(*(torch.autograd.grad((w * g.to(w)).sum(), latent)[0] for w in (weight, expected)), 1e-3)


EXACT = NoiseTable(noise_table(2049).mean, torch.zeros(2049))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", [None, Levels(15), Codes()])
@pytest.mark.parametrize("shape", [(20, 30), (300, 500), (64, 1, 3, 3)])
def test_the_same_as_by_plain_functions(shape, form, per_channel):
    """Without spread, of coarse tables: both look up the same positions, but for the rounding halfway between two."""
    latent, encoding = latents(*shape), held(per_channel, 0.0 if isinstance(form, Codes) else 2.0, form)
    results = []
    for way in (compiled, fused):
        weight, ratio = way.realise(latent, encoding, EXACT, error_table(2049))
        results.append((weight, ratio, *torch.autograd.grad(weight.square().sum() + 10 * ratio, latent)))
    for ours, theirs in zip(*results, strict=True):
        off = (ours - theirs).abs() > 1e-4 * theirs.abs().max()
        assert off.float().mean() < 1e-3
    close(results[0][1], results[1][1], 1e-5)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_weights_that_are_all_zero_or_not_finite(per_channel, value):
    latent = latents(300, 600)
    with torch.no_grad():
        latent[299, 5] = value
        latent[7] = 0
        if not value:
            latent[:] = 0
    weight, error = realise(latent, held(per_channel), noise_table(2049), error_table(2049))
    (weight.square().sum() + error).backward()
    if value == 0:
        assert not weight.any() and error == 0 and latent.grad.isfinite().all()
    else:
        assert not weight[299].isfinite().any() and not error.isfinite()
    if per_channel:
        assert not weight[7].any()


@pytest.mark.parametrize("per_channel", [False, True])
def test_ties_share_the_gradient_of_the_scale(per_channel):
    with torch.no_grad():
        latent = latents(2, PIECE).clamp_(-0.5, 0.5)
    latent.requires_grad_()
    z = draws(latent)
    weight, error = realise(latent, held(per_channel), noise_table(), error_table())
    expected_weight, expected_error = reference(latent, held(per_channel), z)
    downstream = torch.rand_like(latent)
    (grad,) = torch.autograd.grad((weight * downstream).sum() + error, latent)
    (expected,) = torch.autograd.grad((expected_weight * downstream).sum() + expected_error, latent)
    close(grad, expected, 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_channels_last_and_half_precision(per_channel):
    plain = latents(16, 8, 3, 3).detach().bfloat16()
    last = plain.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, error = realise(last, held(per_channel), EXACT, error_table(2049))
    assert weight.is_contiguous(memory_format=torch.channels_last) and weight.dtype == error.dtype == torch.float32
    expected, _ = fused.realise(plain, held(per_channel), EXACT, None)
    close(weight, expected, 1e-4)
    (weight.sum() + error).backward()
    assert last.grad.dtype == torch.bfloat16 and last.grad.isfinite().all()
    weight, error = realise(last, held(per_channel), EXACT, error_table(2049))
    assert torch.autograd.grad(error, last)[0].isfinite().all()  # of the error alone


def test_the_seed_decides_and_the_number_of_threads_does_not():
    latent = latents(4, PIECE)
    results = []
    for threads in (1, 3, 1):
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(3)
            weight, error = realise(latent, held(), noise_table(2049), error_table(2049))
            results.append([weight, error, *torch.autograd.grad(weight.sum() + error, latent)])
        finally:
            torch.set_num_threads(1)
    for some in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], some, strict=True))
    assert not torch.equal(realise(latent, held(), noise_table(2049), None)[0], weight)


def test_checkpointing_recomputes_the_same_noise():
    latent = latents(30, 40)
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(3)

        def loss(w):
            return realise(w, held(), noise_table(2049), None)[0].square().sum()

        value = checkpoint(loss, latent, use_reentrant=False) if checkpointed else loss(latent)
        results.append(torch.autograd.grad(value, latent)[0])
    assert torch.equal(*results)


def test_what_is_not_known_goes_by_plain_functions():
    fixed = held(curve=0.0, form=Codes(fraction_bits=6), fixed=True)
    cases = [(held(), None, error_table(K)), (held(), noise_table(K), error_table(65)), (fixed, noise_table(K), None)]
    latent = latents(3, 4)
    for encoding, noise, error in cases:
        assert not is_supported(encoding, noise, error)
        results = []
        for way in (compiled, fused):
            torch.manual_seed(0)
            results.append(way.realise(latent, encoding, noise, error)[0])
        assert torch.equal(*results)
