"""Training whose layers' weights are computed at once."""

import pytest
import torch
from torch import nn
from torch._inductor import config as inductor
from torch.utils.checkpoint import checkpoint

import hwaware
from hwaware.nn import analog_layers
from hwaware.training import WeightsTogether, choose_way, remove_noise, together


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


def test_without_a_compiler_training_goes_on(monkeypatch):
    def fail(device):
        raise RuntimeError("no C++ compiler\nhere")

    monkeypatch.setattr(together, "probe", fail)
    with pytest.warns(
        UserWarning, match=r"torch.compile is not available \(no C\+\+ compiler\): the weights are computed by plain"
    ):
        assert choose_way(converted(), "compiled") == "together"


@pytest.mark.slow
@inductor.patch(compile_threads=1)  # more are processes that import torch
def test_compiled_it_trains_alike():
    """By the real compiler; and within a network that is compiled as a whole."""
    expected = losses(converted())
    assert choose_way(converted(), "compiled") == "compiled"
    assert losses(converted(), compiled=True) == pytest.approx(expected, rel=1e-3)
    network = converted()
    assert losses(network, predict=torch.compile(network, backend="aot_eager").forward) == pytest.approx(
        expected, rel=1e-3
    )
