"""A small network with every kind of layer, on a small task that it knows."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwaware.compensation import FitData
from hwaware.hardware import load_hardware
from hwaware.nn import convert


class Small(nn.Module):
    """Convolutions of several kinds, both norms, a linear head; one convolution is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2, padding_mode="reflect")
        self.twice = nn.Conv2d(8, 8, 1)
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.grouped(F.relu_(self.depthwise(x))))  # changes a layer's output in place
        x = F.relu(self.twice(F.relu(self.twice(x))))
        return self.head(self.last(x.mean((2, 3))))


@pytest.fixture
def device():
    return load_hardware("reram_cmo", mapping="differential")


@pytest.fixture
def model(device):
    torch.manual_seed(0)
    model = Small().eval()
    convert(model, device)
    return model


@pytest.fixture
def data(model, error):
    """Targets are what the exact network says, so that drift is all there is to repair."""
    with torch.no_grad():
        images = torch.randn(256, 3, 12, 12, generator=torch.Generator().manual_seed(5))
        targets = model(images).detach()

    def training(seed):
        draw = torch.Generator().manual_seed(seed)
        while True:
            chosen = torch.randint(len(images), (64,), generator=draw)
            yield images[chosen], targets[chosen]

    return FitData(
        training=training,
        calibration=lambda n: (images[:n], targets[:n]),
        loss=lambda network, batch: F.mse_loss(network(batch[0]), batch[1]),
        predict=lambda network, batch: network(batch[0]),
        accuracy=lambda network: 100 / (1 + 2000 * error(network)),  # 100 for the exact network
        divergence=F.mse_loss,
    )


@pytest.fixture
def error(model):
    """Mean squared error of a network's outputs on images of its own, off those of the exact network."""
    images = torch.randn(128, 3, 12, 12, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        exact = model(images)

    @torch.no_grad()
    def of(network):
        return F.mse_loss(network(images), exact).item()

    return of
