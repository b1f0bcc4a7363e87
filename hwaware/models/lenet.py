"""LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) for 28×28 images, for timm.

In its modern form: ReLU and max pooling, a padded first convolution, full connections between feature maps.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class LeNet5(nn.Module):
    """Two 5×5 convolutions (6 and 16 channels) and three linear layers (120, 84, ``num_classes``).

    Args:
        num_classes: outputs; 0 leaves the 84 features.
        in_chans: channels of the input image.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = 84
        self.conv1 = nn.Conv2d(in_chans, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        return self.fc3

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one with ``num_classes`` outputs (0: none)."""
        self.num_classes = num_classes
        self.fc3 = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, in_chans, 28, 28) → features (N, 84)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.relu(self.fc2(F.relu(self.fc1(x.flatten(1)))))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Features → logits (N, num_classes), or the features with ``pre_logits``."""
        return x if pre_logits else self.fc3(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


default_cfgs = generate_default_cfgs(
    {
        "lenet5": dict(
            url="",  # nothing to download: weights come from a file
            num_classes=10,
            input_size=(1, 28, 28),
            crop_pct=1.0,
            interpolation="bicubic",
            mean=(0.5,),
            std=(0.5,),
            first_conv="conv1",
            classifier="fc3",
        )
    }
)


@register_model
def lenet5(pretrained: bool = False, **kwargs: Any) -> LeNet5:
    """LeNet-5 for 28×28 grey images: 61,470 weights."""
    return build_model_with_cfg(LeNet5, "lenet5", pretrained, **kwargs)
