"""A custom network, registered in timm by this file: three layers for handwritten digits.

A digital network is trained, then finetuned for memory cells and aged on chips. From this folder::

    hwaware fit --config digits.yaml --model ImageClassification --model.name own_network.small_digits \
        --model.kwargs '{width: 24}' --recipe digital
    hwaware fit --config digits.yaml --model ImageClassification --model.name own_network.small_digits \
        --model.kwargs '{width: 24}' --model.weights runs/digital/version_0/model.safetensors --recipe in_cells \
        --model.freeze '[first]' --model.hardware.device.name reram_cmo --model.noise.kind device
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class SmallDigits(nn.Module):
    """Images ``[N, 1, 8, 8]`` to scores of classes.

    Args:
        num_classes: scores.
        in_chans: of the images.
        width: channels within.
    """

    def __init__(self, num_classes: int = 10, in_chans: int = 1, width: int = 32) -> None:
        super().__init__()
        self.num_classes = num_classes  # what data are compared with
        self.num_features = width * 16  # before the head: `hwaware push` needs it
        self.first = nn.Conv2d(in_chans, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.head = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.first(images).relu()).relu().flatten(1))


#: What images are prepared by; timm asks for a text in "url".
default_cfgs = generate_default_cfgs(
    {
        "small_digits": {
            "url": "",
            "num_classes": 10,
            "input_size": (1, 8, 8),
            "mean": (0.5,),
            "std": (0.5,),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "first_conv": "first",
            "classifier": "head",
        }
    }
)


@register_model
def small_digits(pretrained: bool = False, **kwargs: Any) -> SmallDigits:
    return build_model_with_cfg(SmallDigits, "small_digits", pretrained, **kwargs)
