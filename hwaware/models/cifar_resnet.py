"""The residual networks for 32×32 images of He et al., "Deep Residual Learning" (2016), section 4.2, for timm.

Their shortcuts are option A of the paper: where the size halves, every second pixel is taken and the new channels are
zeros, so a shortcut has no weights. Layer names are those of the public checkpoints
(github.com/akamaster/pytorch_resnet_cifar10), which load without renaming.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import SelectAdaptivePool2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

_WIDTHS = (16, 32, 64)


def shortcut_option_a(x: Tensor, out_chans: int, stride: int) -> Tensor:
    """Identity shortcut (N, C, H, W) → (N, out_chans, ⌈H/stride⌉, ⌈W/stride⌉), new channels zero on both sides."""
    new = out_chans - x.shape[1]
    return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, new // 2, new - new // 2))


class CifarBlock(nn.Module):
    """Two 3×3 convolutions and an identity shortcut without weights."""

    def __init__(self, in_chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, out_chans, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_chans)
        self.conv2 = nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_chans)
        self.out_chans = out_chans
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + shortcut_option_a(x, self.out_chans, self.stride))


class CifarResNet(nn.Module):
    """ResNet of 6n+2 layers: a 3×3 stem, three stages of n blocks (16, 32, 64 channels), one linear layer.

    Args:
        blocks: n, blocks per stage (3, 5, 9 for 20, 32, 56 layers).
        num_classes: outputs; 0 leaves the pooled features.
        in_chans: channels of the input image.
        global_pool: timm's name of the pooling before the classifier; '' keeps the map (needs ``num_classes=0``).
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, blocks: int, num_classes: int = 10, in_chans: int = 3, global_pool: str = "avg") -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = _WIDTHS[-1]
        self.feature_info = [
            dict(num_chs=width, reduction=2**i, module=f"layer{i + 1}") for i, width in enumerate(_WIDTHS)
        ]
        self.conv1 = nn.Conv2d(in_chans, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.act1 = nn.ReLU()  # a module, since timm's features_only runs a network's children in order
        width_in = _WIDTHS[0]
        for i, width in enumerate(_WIDTHS):
            stage = []
            for j in range(blocks):
                stage.append(CifarBlock(width_in, width, stride=2 if i > 0 and j == 0 else 1))
                width_in = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*stage))
        self.reset_classifier(num_classes, global_pool)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def get_classifier(self) -> nn.Module:
        return self.linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one with ``num_classes`` outputs (0: none)."""
        if global_pool is not None:
            self.pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        if num_classes > 0 and self.pool.is_identity():
            raise ValueError("global_pool='' keeps the feature map, which a classifier cannot take; use num_classes=0")
        self.num_classes = num_classes
        self.linear = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, H, W) → feature map (N, 64, H/4, W/4)."""
        x = self.act1(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature map → logits (N, num_classes), or the pooled features (N, 64) with ``pre_logits``."""
        x = self.pool(x)
        return x if pre_logits else self.linear(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def cifar_cfg(**own: Any) -> dict[str, Any]:
    """timm's configuration of a network for CIFAR-10; ``own``: names of first and last layer, size before pooling."""
    return dict(
        url="",  # nothing to download: weights come from a file
        num_classes=10,
        input_size=(3, 32, 32),
        crop_pct=1.0,
        interpolation="bicubic",
        # The public CIFAR-10 checkpoints were trained with ImageNet's mean and standard deviation.
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        **own,
    )


_CFG = cifar_cfg(pool_size=(8, 8), first_conv="conv1", classifier="linear")
default_cfgs = generate_default_cfgs({name: _CFG for name in ("resnet20_cifar", "resnet32_cifar", "resnet56_cifar")})


def _create(variant: str, pretrained: bool, **kwargs: Any) -> CifarResNet:
    return build_model_with_cfg(CifarResNet, variant, pretrained, feature_cfg=dict(out_indices=(0, 1, 2)), **kwargs)


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-20 for 32×32 images: 0.27 M weights."""
    return _create("resnet20_cifar", pretrained, **{"blocks": 3, **kwargs})


@register_model
def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-32 for 32×32 images: 0.46 M weights."""
    return _create("resnet32_cifar", pretrained, **{"blocks": 5, **kwargs})


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56 for 32×32 images: 0.85 M weights."""
    return _create("resnet56_cifar", pretrained, **{"blocks": 9, **kwargs})
