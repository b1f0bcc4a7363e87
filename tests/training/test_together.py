"""Training whose layers' weights are computed at once."""

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor
from torch.utils.checkpoint import checkpoint

import hwaware
from hwaware.nn import analog_layers
from hwaware.nn.weights import compiled
from hwaware.training import WeightsTogether, choose_way, install_way, remove_noise, remove_way, together


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.dropout = dropout
        self.first, self.middle, self.last = nn.Linear(8, 70), nn.Linear(70, 6), nn.Linear(6, 2)
        self.checkpointed = False

    def body(self, x):
        return self.middle(nn.functional.dropout(self.first(x).tanh(), self.dropout, self.training)).tanh()

    def forward(self, x):
        body = checkpoint(self.body, x, use_reentrant=False) if self.checkpointed else self.body(x)
        return self.last(body)


def converted(scale="tensor", dropout=0.0):
    torch.manual_seed(0)
    network = Net(dropout)
    hwaware.convert(network, hwaware.load_hardware("reram_cmo", mapping="differential", scale=scale, kappa=2.0))
    return network


EXACT = hwaware.TrainingNoise(kind="gaussian", std=0.0)


def losses(network, compiled=False, predict=None, together=True, noise=EXACT):
    """Of ten steps of training."""
    hwaware.install_retention(network, hwaware.RetentionLoss())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    at_once, x, found = WeightsTogether(network, compiled), torch.randn(16, 8), []
    for step in range(10):
        torch.manual_seed(step)
        hwaware.install_noise(network, noise)
        if together:
            at_once()
        loss = (predict or network)(x).square().mean() + 0.1 * hwaware.retention_loss(network)
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_it_trains_as_layer_by_layer(scale):
    """But for the draws: here the noise has no spread."""
    assert losses(converted(scale)) == pytest.approx(losses(converted(scale), together=False), rel=1e-3)
    assert losses(converted(scale), noise=hwaware.TrainingNoise()) != losses(converted(scale))


def test_the_same_with_activation_checkpointing():
    noise = hwaware.TrainingNoise()
    expected, network = losses(converted(dropout=0.1), noise=noise), converted(dropout=0.1)
    network.checkpointed = True
    assert losses(network, noise=noise) == expected


def test_without_noise_nothing_of_the_step_is_left():
    network = converted()
    losses(network)
    remove_noise(network)
    assert all(layer.ready is None for layer in analog_layers(network).values())
    network.eval()
    weight = network.first.realised_weight()
    torch.testing.assert_close(weight, network.first.effective_weight())


def test_by_itself_it_is_by_layer_on_a_cpu():
    assert choose_way(converted(), None) == "by_layer" and choose_way(converted(), "together") == "together"
    assert choose_way(Net(), "compiled") == "by_layer"  # nothing in cells


def test_without_a_compiler_training_goes_on(monkeypatch):
    def fail(device):
        raise RuntimeError("no C++ compiler\nhere")

    monkeypatch.setattr(together, "probe", fail)
    with pytest.warns(
        UserWarning, match=r"torch.compile is not available \(no C\+\+ compiler\): the weights are computed by plain"
    ):
        assert choose_way(converted(), "compiled") == "by_layer"


@pytest.mark.parametrize("scale", ["tensor", "channel"])
def test_compiled_on_a_cpu_it_trains_as_layer_by_layer(monkeypatch, scale):
    """The functions themselves; tests/nn/weights/test_compiled.py has them compiled."""
    monkeypatch.setattr(compiled, "_compiled", lambda: (compiled._forward, compiled._backward))
    network = converted(scale)
    assert install_way(network, "compiled") is None
    with_noise = losses(network, together=False, noise=hwaware.TrainingNoise())
    expected = losses(converted(scale), together=False)
    network = converted(scale)
    install_way(network, "compiled")
    assert losses(network, together=False) == pytest.approx(expected, rel=5e-3)  # that looks f up
    assert with_noise != pytest.approx(expected, rel=1e-3)
    remove_way(network)
    assert not any(layer.is_compiled for layer in analog_layers(network).values())


@pytest.mark.slow
@inductor.patch(compile_threads=1)
def test_compiled_within_a_network_that_is_compiled_as_a_whole():
    expected, network = losses(converted(), together=False), converted()
    install_way(network, "compiled")
    whole = torch.compile(network, backend="aot_eager")
    assert losses(network, predict=whole.forward, together=False) == pytest.approx(expected, rel=5e-3)


@pytest.mark.slow
@inductor.patch(compile_threads=1)  # more are processes that import torch
def test_compiled_it_trains_alike():
    """By the real compiler; and within a network that is compiled as a whole."""
    expected = losses(converted())
    assert losses(converted(), compiled=True) == pytest.approx(expected, rel=1e-3)
    network = converted()
    assert losses(network, predict=torch.compile(network, backend="aot_eager").forward) == pytest.approx(
        expected, rel=1e-3
    )
