"""The compiled transform against the definition in double precision. Most run its functions as they are written."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import hwaware
from hwaware.hardware import Codes, Levels
from hwaware.nn import analog_layers
from hwaware.nn.weights import compiled, fused
from hwaware.nn.weights.tables import NoiseTable
from hwaware.training import compile_weights
from tests.nn.weights.test_fused import (
    SHAPES,
    Layer,
    close,
    draws,
    error_table,
    gradients,
    held,
    latents,
    noise_table,
    reference,
)


@pytest.fixture
def written(monkeypatch):
    """The functions without a compiler, which takes its time."""
    monkeypatch.setattr(compiled, "_compiled", lambda: (compiled._forward, compiled._backward))


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("curve", [0.0, 2.0, 6.0])
def test_weights_error_and_gradients(shape, per_channel, curve):
    latent, encoding = latents(*shape), held(per_channel, curve)
    z = draws(latent)
    ours = compiled.realise(latent, encoding, noise_table(), error_table())
    theirs = reference(latent, encoding, z)
    close(ours[0], theirs[0], 1e-4)  # f is looked up, to half a step of 2/K
    close(ours[1], theirs[1], 5e-5)
    for grad, expected in gradients(ours, theirs, latent):
        close(grad, expected, 1e-3)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("form", [None, Levels(15), Codes()])
@pytest.mark.parametrize("error", [None, error_table(2049)])
def test_the_same_as_by_blocks(error, form, per_channel):
    """Of one seed, with tables that are coarse: both look up the same positions."""
    latent = latents(20, 30)
    encoding = held(per_channel, 0.0 if isinstance(form, Codes) else 2.0, form)
    results = []
    for way in (compiled, fused):
        torch.manual_seed(4)
        weight, ratio = way.realise(latent, encoding, noise_table(2049), error)
        loss = weight.square().sum() + (0.0 if ratio is None else 10 * ratio)
        results.append((weight, *torch.autograd.grad(loss, latent)))
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs, 1e-4)


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_weights_that_are_zero_or_not_finite(per_channel, value):
    latent = latents(4, 6)
    with torch.no_grad():
        latent[2 if value or per_channel else slice(None)] = value
    weight, error = compiled.realise(latent, held(per_channel), noise_table(2049), error_table(2049))
    (weight.square().sum() + error).backward()
    if value == 0:
        assert torch.equal(weight[2], torch.zeros(6)) and error.isfinite() and latent.grad.isfinite().all()
    else:
        assert not weight[2].isfinite().any() and not error.isfinite()


@pytest.mark.usefixtures("written")
def test_ties_share_the_gradient_of_the_scale():
    with torch.no_grad():
        latent = latents(300, 400).clamp_(-0.5, 0.5)
    latent.requires_grad_()
    z = draws(latent)
    weight, _ = compiled.realise(latent, held(), noise_table(), None)
    expected, _ = reference(latent, held(), z)
    downstream = torch.rand(300, 400)
    (grad,) = torch.autograd.grad((weight * downstream).sum(), latent)
    close(grad, torch.autograd.grad((expected * downstream).sum(), latent)[0], 1e-3)


@pytest.mark.usefixtures("written")
def test_channels_last_and_half_precision():
    plain = latents(16, 8, 3, 3)
    last = plain.detach().contiguous(memory_format=torch.channels_last).bfloat16().requires_grad_()
    weight, error = compiled.realise(last, held(True), noise_table(2049), error_table(2049))
    assert weight.is_contiguous(memory_format=torch.channels_last) and weight.dtype == error.dtype == torch.float32
    (weight.sum() + error).backward()
    assert last.grad.dtype == torch.bfloat16 and last.grad.isfinite().all()


class Calls(TorchDispatchMode):
    """Counts operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "as_strided" not in str(function) and "view" not in str(function) and "detach" not in str(function):
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_few_operators_are_called_beside_the_compiled_ones(monkeypatch):
    """At most six a layer and step, the compiled two among them: each is a launch or more on a GPU."""
    calls = []

    def outputs(w, table, squares, z, code_steps):
        calls.append("forward")
        return w, w, w, w

    def gradient(w, *rest):
        calls.append("backward")
        return w

    monkeypatch.setattr(compiled, "_compiled", lambda: (outputs, gradient))
    monkeypatch.setattr(compiled, "gaussian_blocks", lambda sizes, device: iter([torch.randn(size) for size in sizes]))
    layer = Layer()
    tables = layer.noise, layer.table
    torch.autograd.backward(
        sum(x.sum() for x in compiled.realise(layer.weight, held(), *tables))
    )  # derived tables are kept
    layer.weight.grad = None
    calls.clear()
    with Calls() as beside:
        weight, error = compiled.realise(layer.weight, held(), *tables)
    back = torch.ones_like(weight), torch.ones_like(error)
    with Calls() as behind:
        torch.autograd.backward([weight, error], back)
    assert calls == ["forward", "backward"]
    assert len(calls) + len(beside.names) + len(behind.names) <= 6, (beside.names, behind.names)


def converted():
    network = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    hwaware.convert(network, hwaware.load_hardware("reram_cmo", mapping="differential", kappa=2.0))
    return network


def test_without_a_compiler_training_goes_on(monkeypatch):
    def fail(device):
        raise RuntimeError("no C++ compiler\nhere")

    monkeypatch.setattr(compiled, "probe", fail)
    network = converted()
    with pytest.warns(UserWarning, match=r"not compiled \(no C\+\+ compiler\); training goes on without"):
        assert not compile_weights(network, True, 100)
    assert not any(layer.compiled for layer in analog_layers(network).values())


def test_by_itself_it_compiles_only_on_a_gpu(monkeypatch):
    monkeypatch.setattr(compiled, "probe", lambda device: pytest.fail("compiles"))
    assert not compile_weights(converted(), None, 1e9)


@pytest.mark.slow
def test_compiled_it_trains_as_by_blocks():
    """With the real compiler: losses of ten steps, alone and within a network that is compiled as a whole."""
    losses = {}
    for way in ("blocks", "compiled", "whole"):
        torch.manual_seed(0)
        network = converted()
        x = torch.randn(16, 8)
        assert compile_weights(network, way != "blocks", 10) == (way != "blocks")
        hwaware.install_retention(network, hwaware.RetentionLoss())
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        predict = torch.compile(network, backend="aot_eager") if way == "whole" else network
        losses[way] = []
        for step in range(10):
            torch.manual_seed(step)
            hwaware.install_noise(network, hwaware.TrainingNoise())
            loss = predict(x).square().mean() + 0.1 * hwaware.retention_loss(network)
            losses[way].append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert losses["compiled"] == pytest.approx(losses["blocks"], rel=1e-3)
    assert losses["whole"] == pytest.approx(losses["blocks"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("per_channel", [False, True])
def test_compiled_on_cuda_it_agrees_with_the_cpu(per_channel):
    latent = latents(300, 400)
    on_gpu = latent.detach().cuda().requires_grad_()
    exact = NoiseTable(torch.zeros(2049), torch.zeros(2049))
    results = []
    for way, weights in ((fused, latent), (compiled, on_gpu)):
        tables = exact.to(weights.device), error_table(2049).to(weights.device)
        weight, error = way.realise(weights, held(per_channel), *tables)
        (weight.square().sum() + error).backward()
        results.append([x.cpu() for x in (weight, error, weights.grad)])
    for ours, theirs in zip(*results[::-1], strict=True):
        close(ours, theirs, 1e-4)
