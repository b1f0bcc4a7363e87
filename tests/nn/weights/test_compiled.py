"""The functions for ``torch.compile``, run plainly and once compiled, against the definition in double precision."""

import math

import pytest
import torch
from torch._inductor import config as inductor
from torch.utils.checkpoint import checkpoint

from hwaware.hardware import Codes, Levels, load_hardware
from hwaware.nn.weights import compiled, definition, fused
from hwaware.nn.weights.compiled import is_supported, realise
from hwaware.nn.weights.gaussian import gaussian_blocks
from hwaware.training.noise import noise_table
from tests.nn.weights import test_fused as laws
from tests.nn.weights.test_fused import SHAPES, close, error_table, gradients, held, latents, reference

K = 2049


@pytest.fixture(autouse=True)
def plain(request, monkeypatch):
    if "slow" not in request.keywords:
        monkeypatch.setattr(compiled, "_compiled", lambda: (compiled._forward, compiled._backward))


def draws(latent):
    """The Gaussians that the next realise() will use, without using them up."""
    state = torch.get_rng_state()
    (z,) = gaussian_blocks([latent.numel()], latent.device)
    torch.set_rng_state(state)
    return z.clone().view_as(latent)


def compare(shape, encoding):
    latent = latents(*shape)
    z = draws(latent)
    ours = realise(latent, encoding, laws.noise_table(K), error_table(K))
    theirs = reference(latent, encoding, z)
    close(ours[0], theirs[0], 1e-5)
    close(ours[1], theirs[1], 5e-4)  # R is a step function: of few weights it shows
    for grad, expected in gradients(ours, theirs, latent):
        close(grad, expected, 3e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("curve", [0.0, 2.0, 6.0])
def test_weights_error_and_gradients(shape, per_channel, curve):
    compare(shape, held(per_channel, curve))


@pytest.mark.slow
@inductor.patch(compile_threads=1)  # more are processes that import torch
@pytest.mark.parametrize("per_channel", [False, True])
def test_compiled_weights_error_and_gradients(per_channel):
    for shape in ((70, 50), (16, 8, 3, 3)):
        compare(shape, held(per_channel))
    latent = latents(30, 40)
    with torch.no_grad():
        latent[3, 5] = math.nan  # no look-up beyond the tables
    weight, error = realise(latent, held(per_channel), laws.noise_table(K), error_table(K))
    (weight.square().sum() + error).backward()
    assert not weight[3].isfinite().any() and not error.isfinite()


@pytest.mark.parametrize("name", ["reram_cmo", "reram_relative"])
@pytest.mark.parametrize("mapping", ["differential", "differential_symmetric", "offset"])
@pytest.mark.parametrize("age_s", [1.0, 3.15e8])
def test_noise_of_devices_is_close_to_their_moments(name, mapping, age_s):
    """Off by a thousandth of the standard deviation, rms over a layer; by a hundredth where there is much of one."""
    hardware = load_hardware(name, mapping=mapping, scale="tensor", kappa=2.0)
    encoding = hardware.encoding
    latent = torch.cat([0.02 * torch.randn(100_000), torch.linspace(-0.1, 0.1, 20_001)]).clamp_(-0.1, 0.1).unsqueeze(0)
    mean, std = encoding.moments(hardware.device, latent[0].double() / latent.max(), age_s, reference_noise=False)
    z = draws(latent)
    weight, _ = realise(latent, encoding, noise_table(hardware, age_s), None)
    expected, _ = definition.realise(
        latent.double(), encoding, lambda u: mean, lambda u: std, definition.no_noise, z.double()
    )
    off = (weight - expected)[0] / 0.1
    assert off[:100_000].norm() < 1e-3 * std[:100_000].norm()
    assert (off.abs() / std)[std > 0.05 * std.max()].max() < 1e-2


@pytest.mark.parametrize("per_channel", [False, True])
def test_one_output_alone(per_channel):
    latent, encoding = latents(300, 400), held(per_channel)
    z = draws(latent)
    weight, none = realise(latent, encoding, laws.noise_table(K), None)
    expected, _ = reference(latent, encoding, z)
    assert none is None
    g = torch.randn(300, 400)
    close(*(torch.autograd.grad((w * g.to(w)).sum(), latent)[0] for w in (weight, expected)), 1e-3)
    _, ours = realise(latent, encoding, laws.noise_table(K), error_table(K))
    close(*(torch.autograd.grad(one, latent)[0] for one in (ours, reference(latent, encoding, z)[1])), 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_weights_that_are_all_zero_or_not_finite(per_channel, value):
    latent = latents(300, 600)
    with torch.no_grad():
        latent[299, 5] = value
        latent[7] = 0
        if not value:
            latent[:] = 0
    weight, error = realise(latent, held(per_channel), laws.noise_table(K), error_table(K))
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
        latent = latents(2, 70_000).clamp_(-0.5, 0.5)
    latent.requires_grad_()
    z = draws(latent)
    weight, error = realise(latent, held(per_channel), laws.noise_table(K), error_table(K))
    expected_weight, expected_error = reference(latent, held(per_channel), z)
    downstream = torch.rand_like(latent)
    (grad,) = torch.autograd.grad((weight * downstream).sum() + error, latent)
    (expected,) = torch.autograd.grad((expected_weight * downstream).sum() + expected_error, latent)
    close(grad, expected, 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_channels_last_and_half_precision(per_channel):
    half = latents(16, 8, 3, 3).detach().bfloat16()
    last = half.contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = laws.NoiseTable(torch.zeros(K), torch.zeros(K))
    weight, error = realise(last, held(per_channel), exact, error_table(K))
    assert weight.is_contiguous(memory_format=torch.channels_last) and weight.dtype == error.dtype == torch.float32
    laws_of_none = [definition.no_noise] * 3
    expected, _ = definition.realise(half.double(), held(per_channel), *laws_of_none, torch.zeros(half.shape))
    close(weight, expected, 1e-5)
    (weight.sum() + error).backward()
    assert last.grad.dtype == torch.bfloat16 and last.grad.isfinite().all()


def test_the_seed_decides_and_checkpointing_recomputes_the_same_noise():
    latent = latents(30, 40)
    results = []
    for checkpointed in (False, True):
        torch.manual_seed(3)

        def loss(w):
            return realise(w, held(), laws.noise_table(K), None)[0].square().sum()

        value = checkpoint(loss, latent, use_reentrant=False) if checkpointed else loss(latent)
        results.append(torch.autograd.grad(value, latent)[0])
    assert torch.equal(*results)
    assert not torch.equal(*(realise(latent, held(), laws.noise_table(K), None)[0] for _ in range(2)))


def test_what_is_not_known_goes_by_plain_functions():
    fixed = held(curve=0.0, form=Codes(fraction_bits=6), fixed=True)
    table = laws.noise_table(K)
    cases = [
        (held(), None, error_table(K)),
        (held(), table, error_table(65)),
        (held(form=Levels(15)), table, None),
        (fixed, table, None),
    ]
    latent = latents(3, 4)
    for encoding, noise, error in cases:
        assert not is_supported(encoding, noise, error)
        results = []
        for way in (compiled, fused):
            torch.manual_seed(0)
            results.append(way.realise(latent, encoding, noise, error)[0])
        assert torch.equal(*results)
