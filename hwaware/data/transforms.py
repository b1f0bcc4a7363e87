"""From a stored image to a network's input: timm's preprocessing, and a few augmentations before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.data import create_transform
from timm.data.transforms import MaybeToTensor
from torchvision import transforms

from hwaware.errors import UserError, nearest

AUGMENTATIONS = ("none", "crop", "crop_flip", "resized_crop_flip")


def eval_transform(data_config: dict[str, Any]) -> Callable:
    """PIL image → float32 (3, H, W) as the network's own data config says: resize, centre crop, normalise.

    An image that has the network's input size already is not resampled where ``crop_pct`` is 1.
    """
    return create_transform(**data_config, is_training=False)


def train_transform(data_config: dict[str, Any], augment: str) -> Callable:
    """As :func:`eval_transform`, with an augmentation.

    ``none``; ``crop``: shift by up to an eighth of the size, zeros outside (4 pixels at 32, as He et al. 2016);
    ``crop_flip``: and mirror half of the images; ``resized_crop_flip``: a random part of 8–100 % of the area, as is
    usual for ImageNet, and mirror.

    Raises:
        UserError: unknown augmentation.
    """
    check_augment(augment)
    if augment == "resized_crop_flip":
        return create_transform(**data_config, is_training=True, color_jitter=None)
    steps = list(eval_transform(data_config).transforms)
    to_tensor = next(i for i, step in enumerate(steps) if isinstance(step, MaybeToTensor))
    size = tuple(data_config["input_size"][-2:])
    extra: list[Callable] = []
    if augment.startswith("crop"):
        extra.append(transforms.RandomCrop(size, padding=(size[1] // 8, size[0] // 8)))
    if augment.endswith("flip"):
        extra.append(transforms.RandomHorizontalFlip())
    return transforms.Compose(steps[:to_tensor] + extra + steps[to_tensor:])


def check_augment(augment: str) -> None:
    """Raise a UserError that names the nearest augmentation if there is none of this name."""
    if augment not in AUGMENTATIONS:
        raise UserError(f"unknown augmentation '{augment}'. {nearest(augment, AUGMENTATIONS)}")
