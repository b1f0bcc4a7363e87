"""The fused operation against a plain implementation in double precision, differentiated by autograd."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from hwaware.hardware import Codes, Continuous, Encoding, Levels
from hwaware.nn.weights import definition
from hwaware.nn.weights.definition import no_noise
from hwaware.nn.weights.fused import BLOCK, realise
from hwaware.nn.weights.gaussian import fresh_gaussian, gaussian_blocks
from hwaware.nn.weights.tables import ErrorTable, NoiseTable, positions

# Smooth statistics, known in closed form; the table is fine enough that its nearest position is as good as the law.
K = 2**17 + 1


def mean_law(u):
    return -0.03 * torch.sin(2 * u) + 0.004


def std_law(u):
    return 0.02 + 0.03 * u**2


def error_law(u):
    return 0.001 + 0.02 * u**2 + 0.005 * torch.cos(3 * u)


def noise_table(size=K):
    return NoiseTable(mean_law(positions(size)), std_law(positions(size)))


def error_table(size=K):
    u = positions(size).requires_grad_()
    value = error_law(u)
    (slope,) = torch.autograd.grad(value.sum(), u)
    return ErrorTable(value.detach(), slope)


def held(per_channel=False, curve=2.0, form=None, fixed=False):
    """An encoding by what matters to training; the curvature is κ of the whole window."""
    scale = "fixed" if fixed else "channel" if per_channel else "tensor"
    mapping = "bit_sliced" if isinstance(form, Codes) else "differential"
    return Encoding(mapping=mapping, scale=scale, kappa=curve or None, format=form or Continuous())


def reference(latent, encoding, z=None, at=lambda u: u):
    """Weights and normalised error in double precision, by the definition; ``at``: where the laws are taken."""
    noise = (no_noise, no_noise) if z is None else (lambda u: mean_law(at(u)), lambda u: std_law(at(u)))
    z = torch.zeros_like(latent) if z is None else z
    return definition.realise(latent.double(), encoding, *noise, lambda u: error_law(at(u)), z.double())


def latents(*shape):
    """Heavy-tailed, like a layer's weights."""
    return (torch.randn(shape) * torch.rand(shape)).requires_grad_()


def draws(latent):
    """The Gaussians that the next realise() will use, without using them up (dense default layout, per tensor)."""
    state = torch.get_rng_state()
    n = latent.numel()
    sizes = [BLOCK] * (n // BLOCK) + ([n % BLOCK] if n % BLOCK else [])
    z = torch.cat(list(gaussian_blocks(sizes, latent.device))).view_as(latent)
    torch.set_rng_state(state)
    return z


def close(actual, expected, rtol):
    """Relative to the largest value: what a weight or gradient tensor is judged by."""
    assert actual.shape == expected.shape
    error = (actual.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-12)
    assert error < rtol, f"relative error {error:.2e}"


SHAPES = [(5, 7), (16, 3, 3, 3), (8, 1, 3, 3), (300, 400)]


def gradients(ours, theirs, latent):
    """Of losses of the weights, of the error and of both: by our outputs, and by the reference's."""
    downstream = torch.randn(latent.shape)
    for loss in (
        lambda w, e: (w * downstream.to(w)).sum(),
        lambda w, e: e,
        lambda w, e: (w * downstream.to(w)).sum() + 30 * e,
    ):
        yield tuple(torch.autograd.grad(loss(*outputs), latent, retain_graph=True)[0] for outputs in (ours, theirs))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("curve", [0.0, 0.5, 2.0, 6.0])
def test_weights_error_and_gradients(shape, per_channel, curve):
    latent = latents(*shape)
    z = None if per_channel else draws(latent)
    noise = noise_table() if z is not None else None
    encoding = held(per_channel, curve)
    weight, error = realise(latent, encoding, noise=noise, error=error_table())
    expected_weight, expected_error = reference(latent, encoding, z)
    assert weight.dtype == torch.float32 and error.shape == ()
    close(weight, expected_weight, 5e-6 if noise is None else 1e-4)  # with noise f is looked up, to half a step of 2/K
    close(error, expected_error, 5e-5)

    ours, theirs = (weight, error), (expected_weight, expected_error)
    for grad, expected in gradients(ours, theirs, latent):
        close(grad, expected, 1e-3)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("curve", [0.0, 2.0])
@pytest.mark.parametrize("noisy", [False, True])
def test_levels(noisy, curve, per_channel):
    """Values on seven levels a side, slopes as without."""
    latent, encoding = latents(300, 400), held(per_channel, curve, Levels(15))
    noise = NoiseTable(torch.zeros(K), torch.zeros(K)) if noisy else None
    for error in (None, error_table()):
        weight, ratio = realise(latent, encoding, noise=noise, error=error)
        expected_weight, expected_ratio = reference(latent, encoding)
        if noisy:  # looked up: next to a boundary between levels the other side may be nearer
            assert ((weight - expected_weight).abs() < 1e-5 * weight.abs().max()).float().mean() > 0.999
        else:
            close(weight, expected_weight, 5e-6)
        downstream = torch.randn(300, 400)
        loss, expected_loss = ((w * downstream.to(w)).sum() for w in (weight, expected_weight))
        if error is not None:
            close(ratio, expected_ratio, 5e-5)
            loss, expected_loss = loss + 30 * ratio, expected_loss + 30 * expected_ratio
        (grad,) = torch.autograd.grad(loss, latent)
        (expected,) = torch.autograd.grad(expected_loss, latent)
        close(grad, expected, 1e-3 if not noisy else 5e-2)


@pytest.mark.parametrize("per_channel", [False, True])
def test_levels_of_weights_that_are_zero_or_not_finite(per_channel):
    encoding = held(per_channel, 2.0, Levels(15))
    weight, _ = realise(torch.zeros(3, 4), encoding, noise=None, error=None)
    assert torch.equal(weight, torch.zeros(3, 4))
    latent = latents(3, 4).detach()
    latent[1, 2] = math.nan
    weight, _ = realise(latent, encoding, noise=None, error=None)
    assert not weight[1].isfinite().any()


@pytest.mark.parametrize("shape", [(5, 7), (300, 600)])
@pytest.mark.parametrize(("per_channel", "fixed_scale"), [(False, None), (True, None), (False, 0.5)])
@pytest.mark.parametrize("noisy", [False, True])
def test_codes(noisy, per_channel, fixed_scale, shape):
    """The value of the code, the slope without, and of a weight beyond the codes nothing that leads further out."""
    latent, fixed = latents(*shape), fixed_scale is not None
    encoding = held(per_channel, 0.0, Codes(fraction_bits=8 if fixed else None), fixed)
    assert encoding.scaling.fixed == fixed_scale and encoding.steps == 128
    z = draws(latent) if noisy and not per_channel else None
    noise = noise_table(2049) if z is not None else None
    table = error_table(2049)
    weight, error = realise(latent, encoding, noise=noise, error=table)
    expected_weight, expected_error = reference(latent, encoding, z, at=encoding.written)
    close(weight, expected_weight, 1e-6)
    close(error, expected_error, 1e-5)
    torch.manual_seed(0)
    downstream = torch.randn(shape)
    s = latent.detach().abs().max() if fixed_scale is None else fixed_scale
    for loss in (
        lambda w, e: (w * downstream.to(w)).sum(),
        lambda w, e: e,
        lambda w, e: (w * downstream.to(w)).sum() + 30 * e,
    ):
        (grad,) = torch.autograd.grad(loss(weight, error), latent, retain_graph=True)
        (expected,) = torch.autograd.grad(loss(expected_weight, expected_error), latent, retain_graph=True)
        if fixed_scale is not None:
            further = ((latent > s * 127 / 128) & (expected < 0)) | ((latent < -s) & (expected > 0))
            assert not grad[further].any()
            expected = expected.masked_fill(further, 0)
        # Through s come differences of sums in single precision.
        close(grad, expected, 1e-4 if fixed_scale is not None else 5e-3)


def test_only_what_leads_back_moves_a_clipped_weight():
    latent = torch.tensor([[3.0, 3.0, -3.0, -3.0, 2.0, 1.0]], requires_grad=True)
    weight, _ = realise(latent, held(curve=0.0, form=Codes(fraction_bits=6), fixed=True), noise=None, error=None)
    assert weight.tolist() == [[127 / 64, 127 / 64, -2.0, -2.0, 127 / 64, 1.0]]
    (weight * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])).sum().backward()
    assert latent.grad.tolist() == [[1.0, 0.0, 0.0, -1.0, 1.0, -1.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("noise", [None, noise_table(2049)])
def test_clipping_does_not_hide_weights_that_are_not_finite(noise, value):
    latent = latents(300, 600)
    with torch.no_grad():
        latent[299, 5] = value
    encoding = held(curve=0.0, form=Codes(fraction_bits=6), fixed=True)
    weight, error = realise(latent, encoding, noise=noise, error=error_table(2049))
    assert not weight.isfinite().any() and not error.isfinite()
    (weight.sum() + error).backward()


def test_gradient_agrees_with_finite_differences():
    """An independent check of the reference: moving a weight, also the one that sets the scale, in double precision."""
    latent = latents(6, 5).detach()
    downstream = torch.randn(6, 5, dtype=torch.float64)

    def loss(w):
        weight, error = reference(w, held())
        return (weight * downstream).sum() + 3 * error

    weight, error = realise(p := latent.clone().requires_grad_(), held(), noise=None, error=error_table())
    ((weight.double() * downstream).sum() + 3 * error.double()).backward()
    step = 1e-3  # the scale is rounded to single precision
    for i in range(latent.numel()):
        nudge = torch.zeros(latent.numel(), dtype=torch.float64)
        nudge[i] = step
        nudge = nudge.view_as(latent)
        slope = (loss(latent.double() + nudge) - loss(latent.double() - nudge)) / (2 * step)
        assert p.grad.flatten()[i].item() == pytest.approx(slope.item(), rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("curve", [0.0, 2.0])
def test_noise_has_the_moments_of_its_table(curve):
    latent = latents(200, 300).detach()
    encoding = held(curve=curve)
    exact, _ = reference(latent, encoding)
    s, u = latent.abs().max(), latent / latent.abs().max()
    args = dict(encoding=encoding, noise=noise_table(2049), error=None)
    for fresh in (False, True):
        n = 64
        with fresh_gaussian() if fresh else nullcontext():
            noisy = [realise(latent, **args)[0] for _ in range(n)]
        z = ((torch.stack(noisy) - exact) / s - mean_law(u)) / std_law(u)
        count = z.numel()
        # The table's nearest position is off by up to half a step, 1e-3·slope/std: within 2 % of a std.
        assert abs(z.mean()) < 5 / count**0.5 + 2e-3
        assert abs(z.var() - 1) < 5 * (2 / count) ** 0.5 + 2e-3
        assert z.mean(0).abs().max() < 6 / n**0.5  # each weight, not only on average
        assert not torch.equal(noisy[0], noisy[1])


def test_per_channel_noise_scales_with_each_channel():
    latent = latents(50, 2000).detach() * torch.logspace(-2, 1, 50).unsqueeze(1)
    noisy, _ = realise(latent, held(per_channel=True), noise=noise_table(), error=None)
    exact, _ = reference(latent, held(per_channel=True))
    s = latent.abs().amax(1, keepdim=True)
    u = latent / s
    z = ((noisy - exact) / s - mean_law(u)) / std_law(u)
    assert (z.var(1) - 1).abs().max() < 5 * (2 / 2000) ** 0.5
    assert z.mean(1).abs().max() < 5 / 2000**0.5


def test_same_seed_same_noise():
    latent = latents(30, 40)
    args = dict(encoding=held(), noise=noise_table(), error=None)
    torch.manual_seed(3)
    first, second = realise(latent, **args)[0], realise(latent, **args)[0]
    torch.manual_seed(3)
    assert torch.equal(realise(latent, **args)[0], first) and not torch.equal(first, second)


def test_table_size_is_free_and_ends_are_reached():
    """A table of three: positions -1, 0, 1, and nothing in between or beyond."""
    latent = torch.tensor([[-1.0, -0.6, -0.4, 0.0, 0.4, 0.6, 1.0]]) * 4
    table = NoiseTable(torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3))
    weight, _ = realise(latent, held(curve=0.0), noise=table, error=None)
    torch.testing.assert_close(weight / 4, torch.tensor([[-0.9, -0.9, 0.2, 0.2, 0.2, 1.3, 1.3]]))


def test_no_operation_returns_the_parameter_itself():
    latent = latents(3, 4)
    weight, error = realise(latent, held(curve=0.0), noise=None, error=None)
    assert weight is latent and error is None


@pytest.mark.parametrize("per_channel", [False, True])
def test_error_alone_leaves_linear_weights_as_they_are(per_channel):
    latent = latents(9, 4)
    weight, _ = realise(latent, held(per_channel, curve=0.0), noise=None, error=error_table())
    assert torch.equal(weight, latent) and weight.data_ptr() != latent.data_ptr()


@pytest.mark.parametrize("per_channel", [False, True])
def test_all_zero_weights(per_channel):
    latent = torch.zeros(4, 6, requires_grad=True)
    weight, error = realise(latent, held(per_channel), noise=noise_table(), error=error_table())
    assert torch.equal(weight, torch.zeros(4, 6)) and error == 0
    (weight.sum() + error).backward()
    assert latent.grad.isfinite().all()


def test_one_all_zero_channel():
    latent = latents(4, 6)
    with torch.no_grad():
        latent[2] = 0
    weight, error = realise(latent, held(per_channel=True), noise=noise_table(), error=error_table())
    (weight.square().sum() + error).backward()
    assert torch.equal(weight[2], torch.zeros(6)) and error.isfinite() and latent.grad.isfinite().all()


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_pass_on(per_channel, value):
    """A diverged training is told by its loss, not by an index out of range."""
    latent = latents(300, 600)
    with torch.no_grad():
        latent[299, 5] = value
    weight, error = realise(latent, held(per_channel), noise=noise_table(2049), error=error_table())
    assert not weight[299].isfinite().any() and not error.isfinite()
    (weight.sum() + error).backward()


@pytest.mark.parametrize("per_channel", [False, True])
def test_ties_share_the_gradient_of_the_scale(per_channel):
    """As after weight clipping; ties across blocks, and of both signs."""
    with torch.no_grad():
        latent = latents(300, 400).clamp_(-0.5, 0.5)
    assert (latent.abs() == 0.5).sum() > 100
    latent.requires_grad_()
    downstream = torch.rand(300, 400)
    weight, error = realise(latent, held(per_channel), noise=None, error=error_table())
    expected_weight, expected_error = reference(latent, held(per_channel))
    (grad,) = torch.autograd.grad((weight * downstream).sum() + error, latent)
    (expected,) = torch.autograd.grad((expected_weight * downstream).sum() + expected_error, latent)
    close(grad, expected, 1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
def test_channels_last_weights(per_channel):
    plain = latents(16, 8, 3, 3)
    last = plain.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    args = dict(encoding=held(per_channel), noise=None, error=error_table())
    weight, error = realise(last, **args)
    expected_weight, expected_error = realise(plain, **args)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weight, expected_weight)
    torch.testing.assert_close(error, expected_error)
    downstream = torch.randn(16, 8, 3, 3)
    (weight * downstream).sum().backward()
    (expected_weight * downstream).sum().backward()
    torch.testing.assert_close(last.grad, plain.grad)


@pytest.mark.parametrize("view", [lambda p: p.t(), lambda p: p[::2], lambda p: p[:, 1:4]])
def test_latents_that_are_not_dense(view):
    base = latents(12, 10)
    args = dict(encoding=held(per_channel=True), noise=None, error=error_table())
    weight, error = realise(view(base), **args)
    expected_weight, expected_error = realise(view(base).contiguous(), **args)
    assert torch.equal(weight, expected_weight) and torch.equal(error, expected_error)
    (grad,) = torch.autograd.grad(weight.square().sum() + error, base)
    (expected,) = torch.autograd.grad(expected_weight.square().sum() + expected_error, base)
    assert torch.equal(grad, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_latents_are_computed_in_fp32(dtype):
    latent = latents(20, 30).detach().to(dtype).requires_grad_()
    weight, error = realise(latent, held(), noise=None, error=error_table())
    expected_weight, expected_error = reference(latent, held())
    assert weight.dtype == error.dtype == torch.float32
    close(weight, expected_weight, 5e-6)
    close(error, expected_error, 5e-5)
    (weight.sum() + error).backward()
    assert latent.grad.dtype == dtype


def test_autocast_does_not_touch_it():
    latent = latents(300, 400)
    args = dict(encoding=held(), noise=noise_table(), error=error_table())
    torch.manual_seed(1)
    expected = realise(latent, **args)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weight, error = realise(latent, **args)
    assert torch.equal(weight, expected[0]) and torch.equal(error, expected[1])


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(latents(20, 20).detach())
        self.noise, self.table = noise_table(2049), error_table(2049)

    def forward(self, x):
        weight, error = realise(self.weight, held(), noise=self.noise, error=self.table)
        return F.linear(x, weight).tanh() * (1 + error)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_recomputes_the_same_noise(use_reentrant):
    layer, x = Layer(), torch.randn(3, 20, requires_grad=True)
    torch.manual_seed(2)
    layer(layer(x)).sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    torch.manual_seed(2)
    inner = checkpoint(layer, x, use_reentrant=use_reentrant)
    checkpoint(layer, inner, use_reentrant=use_reentrant).sum().backward()
    assert torch.equal(layer.weight.grad, expected)


def test_deepcopy_and_compile():
    layer, x = Layer(), torch.randn(3, 20)
    torch.manual_seed(2)
    expected = layer(x)
    torch.manual_seed(2)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    torch.manual_seed(2)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), expected)


def test_saves_only_latents_and_weights():
    """What the backward pass keeps alive; the weights are kept by the layer in any case."""
    latent, noise, table = latents(300, 400), noise_table(), error_table()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        weight, _ = realise(latent, held(), noise=noise, error=table)
    large = {t.data_ptr() for t in saved if t.numel() > 1000}
    assert large == {latent.data_ptr(), weight.data_ptr()}
    saved.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        weight, error = realise(latent.detach(), held(), noise=noise, error=table)
    assert not saved and not weight.requires_grad and not error.requires_grad


def test_gradients_of_only_one_output():
    latent = latents(7, 5)
    weight, _ = realise(latent, held(per_channel=True), noise=None, error=error_table())
    (grad,) = torch.autograd.grad(weight.sum(), latent)
    (expected,) = torch.autograd.grad(reference(latent, held(per_channel=True))[0].sum(), latent)
    close(grad, expected, 1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("per_channel", [False, True])
def test_cuda_agrees_with_cpu(per_channel):
    latent = latents(300, 400)
    on_gpu = latent.detach().cuda().requires_grad_()
    args = dict(encoding=held(per_channel), noise=None)
    weight, error = realise(latent, error=error_table(), **args)
    gpu_weight, gpu_error = realise(on_gpu, error=error_table().to(on_gpu.device), **args)
    close(gpu_weight.cpu(), weight, 1e-5)
    close(gpu_error.cpu(), error, 1e-4)
    (weight.square().sum() + error).backward()
    (gpu_weight.square().sum() + gpu_error).backward()
    close(on_gpu.grad.cpu(), latent.grad, 1e-4)
    noisy, _ = realise(on_gpu, held(per_channel), noise=noise_table().to(on_gpu.device), error=None)
    assert noisy.isfinite().all() and not torch.equal(noisy, gpu_weight)
