"""VGG-16 with batch norm (Simonyan & Zisserman, arXiv 1409.1556, configuration D) for 32×32 images, for timm.

Five pooling layers leave one position, so the three linear layers of the classifier are as wide as the last
convolution: 15.3 M parameters, the number that Charan et al. (10.1109/JXCDC.2020.2987605) state.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from hwaware.models.cifar_resnet import cifar_cfg

#: Number of convolutions of each stage, and its channels as a multiple of the first stage's.
_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


class CifarVgg(nn.Module):
    """Thirteen 3×3 convolutions with batch norm in five stages, each ended by pooling, and three linear layers.

    Args:
        width: channels of the first stage; 64 is VGG-16.
        num_classes: outputs; 0 leaves the features before the last layer.
        in_chans: channels of the input image.
        drop_rate: dropout before each linear layer.
    """

    def __init__(self, width: int = 64, num_classes: int = 10, in_chans: int = 3, drop_rate: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_chans
        for depth, factor in _STAGES:
            for _ in range(depth):
                layers += [nn.Conv2d(channels, width * factor, 3, padding=1, bias=False)]
                channels = width * factor
                layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.num_features = self.head_hidden_size = channels
        hidden = [(nn.Dropout(drop_rate), nn.Linear(channels, channels), nn.ReLU(inplace=True)) for _ in range(2)]
        self.hidden = nn.Sequential(*(layer for part in hidden for layer in part), nn.Dropout(drop_rate))
        self.reset_classifier(num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one with ``num_classes`` outputs (0: none)."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, 32, 32) → feature map (N, 8·width, 1, 1)."""
        return self.features(x.contiguous(memory_format=torch.channels_last))  # faster on CPUs

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature map → logits (N, num_classes), or the features before the last layer with ``pre_logits``."""
        x = self.hidden(x.flatten(1))
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


_CFG = cifar_cfg(pool_size=(1, 1), first_conv="features.0", classifier="head")
default_cfgs = generate_default_cfgs({name: _CFG for name in ("vgg16_cifar", "vgg16_cifar_narrow")})


@register_model
def vgg16_cifar(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-16 for 32×32 images: 15.2 M weights."""
    return build_model_with_cfg(CifarVgg, "vgg16_cifar", pretrained, **{"width": 64, **kwargs})


@register_model
def vgg16_cifar_narrow(pretrained: bool = False, **kwargs: Any) -> CifarVgg:
    """VGG-16 with half the channels, for machines without a GPU: 3.8 M weights."""
    return build_model_with_cfg(CifarVgg, "vgg16_cifar_narrow", pretrained, **{"width": 32, **kwargs})
