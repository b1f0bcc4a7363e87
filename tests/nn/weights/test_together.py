"""Layers' weights realised at once, against the definition in double precision."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hwaware.hardware import Codes, Levels
from hwaware.nn.weights import fused
from hwaware.nn.weights.tables import NoiseTable
from hwaware.nn.weights.together import Together, is_supported
from tests.nn.weights.test_fused import SHAPES, close, error_table, held, latents, noise_table, reference

K = 2049


def realise(several, encoding, noise, error, seed=3):
    """Weights and errors, and the Gaussians that they got."""
    plan = Together(several, encoding)
    torch.manual_seed(seed)
    z = plan.scatter(torch.randn(plan.gather(several).shape), several)
    torch.manual_seed(seed)
    return plan.realise(several, noise, error), z


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("curve", [0.0, 2.0, 6.0])
def test_weights_errors_and_gradients(per_channel, curve):
    several, encoding = [latents(*shape) for shape in SHAPES], held(per_channel, curve)
    ours, z = realise(several, encoding, noise_table(), error_table())
    theirs = [reference(latent, encoding, one) for latent, one in zip(several, z, strict=True)]
    for (weight, error), (expected_weight, expected_error) in zip(ours, theirs, strict=True):
        close(weight, expected_weight, 1e-4)  # f is looked up, to half a step of 2/K
        close(error, expected_error, 5e-5)
    downstream = [torch.randn(shape) for shape in SHAPES]
    for of_weights, of_errors in ((1, 0), (0, 1), (1, 30)):
        grads = []
        for outputs in (ours, theirs):
            losses = [
                of_weights * (w * d.to(w)).sum() + of_errors * e for (w, e), d in zip(outputs, downstream, strict=True)
            ]
            grads.append(torch.autograd.grad(sum(losses), several, retain_graph=True))
        for grad, expected in zip(*grads, strict=True):
            close(grad, expected, 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", [None, Levels(15), Codes()])
@pytest.mark.parametrize("error", [None, error_table(K)])
def test_the_same_as_layer_by_layer(error, form, per_channel):
    """Without spread, with tables that are coarse: both look up the same positions."""
    several = [latents(20, 30), latents(8, 4, 3, 3)]
    encoding = held(per_channel, 0.0 if isinstance(form, Codes) else 2.0, form)
    noise = NoiseTable(noise_table(K).mean, torch.zeros(K))
    results = [realise(several, encoding, noise, error)[0]]
    results.append([fused.realise(latent, encoding, noise, error) for latent in several])
    for ours, theirs, latent in zip(*results, several, strict=True):
        grads = []
        for weight, ratio in (ours, theirs):
            loss = weight.square().sum() + (0.0 if ratio is None else 10 * ratio)
            grads += torch.autograd.grad(loss, latent, retain_graph=True)
        close(ours[0], theirs[0], 1e-4)
        close(*grads, 1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_layer_that_is_zero_or_not_finite_leaves_the_others_alone(per_channel, value):
    several = [latents(4, 6), latents(5, 7)]
    with torch.no_grad():
        several[0][:] = value
    (broken, sound), _ = realise(several, held(per_channel), noise_table(K), error_table(K))
    (broken[0].square().sum() + broken[1] + sound[0].square().sum() + sound[1]).backward()
    assert sound[0].isfinite().all() and sound[1].isfinite() and several[1].grad.isfinite().all()
    if value == 0:
        assert not broken[0].any() and broken[1] == 0 and several[0].grad.isfinite().all()
    else:
        assert not broken[0].isfinite().any() and not broken[1].isfinite()


def test_ties_share_the_gradient_of_the_scale():
    with torch.no_grad():
        latent = latents(300, 400).clamp_(-0.5, 0.5)
    latent.requires_grad_()
    ((weight, _),), (z,) = realise([latent], held(), noise_table(), None)
    expected, _ = reference(latent, held(), z)
    downstream = torch.rand(300, 400)
    (grad,) = torch.autograd.grad((weight * downstream).sum(), latent)
    close(grad, torch.autograd.grad((expected * downstream).sum(), latent)[0], 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
def test_channels_last_half_precision_and_one_output_unused(per_channel):
    plain = latents(16, 8, 3, 3).detach().bfloat16()
    last = plain.contiguous(memory_format=torch.channels_last).requires_grad_()
    unused = latents(3, 4)
    exact = NoiseTable(torch.zeros(K), torch.zeros(K))
    ((weight, error), _), _ = realise([last, unused], held(per_channel), exact, error_table(K))
    assert weight.is_contiguous(memory_format=torch.channels_last) and weight.dtype == error.dtype == torch.float32
    expected, _ = fused.realise(plain, held(per_channel), exact, None)
    close(weight, expected, 1e-4)
    (weight.sum() + error).backward()
    assert last.grad.dtype == torch.bfloat16 and last.grad.isfinite().all()
    assert not unused.grad.any()


def test_what_it_knows():
    assert is_supported(held(), noise_table(K), None) and is_supported(held(), noise_table(K), error_table(K))
    assert not is_supported(held(), None, error_table(K)) and not is_supported(held(), noise_table(K), error_table(65))
    assert not is_supported(held(curve=0.0, form=Codes(fraction_bits=6), fixed=True), noise_table(K), None)


class Calls(TorchDispatchMode):
    """Counts operators that are called and compute something."""

    views = (
        "view",
        "alias",
        "as_strided",
        "detach",
        "slice",
        "select",
        "split",
        "unbind",
        "expand",
        "unsqueeze",
        "squeeze",
    )

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not any(name in str(function) for name in self.views):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_calls_do_not_grow_with_layers():
    """On a GPU each is a launch, or a few: at most six a layer and step, of a network with 22 layers."""
    counts = {}
    noise, error = noise_table(K), error_table(K)
    for n in (20, 50):
        several = [latents(4, 1024) for _ in range(n)]
        plan = Together(several, held())
        for _ in range(2):  # what is derived of the tables is kept
            with Calls() as ahead:
                weights, errors = zip(*plan.realise(several, noise, error), strict=True)
            given = [torch.ones_like(one) for one in (*weights, *errors)]
            with Calls() as back:
                torch.autograd.backward([*weights, *errors], given)
            for one in several:
                one.grad = None
        counts[n] = len(ahead.names) + len(back.names)
    assert counts[50] == counts[20] <= 6 * 22, ahead.names + back.names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("per_channel", [False, True])
def test_on_cuda_it_agrees_with_the_cpu(per_channel):
    several = [latents(300, 400), latents(16, 8, 3, 3)]
    on_gpu = [one.detach().cuda().requires_grad_() for one in several]
    exact = NoiseTable(torch.zeros(K), torch.zeros(K))
    results = []
    for layers in (on_gpu, several):
        tables = exact.to(layers[0].device), error_table(K).to(layers[0].device)
        realised, _ = realise(layers, held(per_channel), *tables)
        sum(weight.square().sum() + error for weight, error in realised).backward()
        results.append([x.detach().cpu() for pair in realised for x in pair] + [one.grad.cpu() for one in layers])
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs, 1e-3)
