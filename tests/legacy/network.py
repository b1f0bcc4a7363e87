"""The network of the files here, in timm's registry. It must stay as it is: the files hold its weights."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class LegacyNet(nn.Module):
    """Two small convolutions, one of them grouped, with batch norm, and a linear layer, for 8×8 images."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 64
        self.conv1 = nn.Conv2d(in_chans, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(16)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn1(self.conv1(images)).relu()
        return self.linear(self.bn2(self.conv2(features)).relu().flatten(1))


_CFG = {
    "num_classes": 10,
    "input_size": (3, 8, 8),
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "first_conv": "conv1",
    "classifier": "linear",
}
default_cfgs = generate_default_cfgs({"legacy_test_net": _CFG})


@register_model
def legacy_test_net(pretrained: bool = False, **kwargs: Any) -> LegacyNet:
    return build_model_with_cfg(LegacyNet, "legacy_test_net", pretrained, **kwargs)
