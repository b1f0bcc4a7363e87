"""From a stored image to a network's input: timm's preprocessing, and a few augmentations before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from PIL import Image
from timm.data import auto_augment, create_transform
from timm.data.transforms import MaybeToTensor
from torchvision import transforms

from hwaware.errors import UserError, nearest

AUGMENTATIONS = ("none", "crop", "crop_flip", "resized_crop_flip")


def eval_transform(data_config: Mapping[str, Any]) -> transforms.Compose:
    """PIL image → float32 (C, H, W) as the network's own data config says: resize, centre crop, normalise.

    An image that already has the network's input size is not resampled if ``crop_pct`` is 1. For a network with one
    channel it is converted to grey.
    """
    return transforms.Compose([*_channels(data_config), *create_transform(**data_config, is_training=False).transforms])


def train_transform(
    data_config: Mapping[str, Any],
    augment: str,
    policy: str | None = None,
    color_jitter: float | None = None,
    random_erasing: float = 0.0,
) -> transforms.Compose:
    """As :func:`eval_transform`, with an augmentation, and timm's stronger ones after it.

    ``none``; ``crop``: shift by up to an eighth of the size, zeros outside (4 pixels at 32, as He et al. 2016);
    ``crop_flip``: and mirror half of the images; ``resized_crop_flip``: a random part of 8–100 % of the area, as is
    usual for ImageNet, and mirror. Take what the network has learned from: the black borders of the first two change
    the batch statistics of a network of ImageNet, which has seen none.

    Args:
        data_config: timm's ``resolve_model_data_config(model)``.
        augment: one of the above.
        policy: the ``auto_augment`` of :class:`~hwaware.data.ImageData`, as are the following.
        color_jitter, random_erasing: see there.

    Raises:
        UserError: unknown augmentation, or out of range.
    """
    check_augment(augment, policy, color_jitter, random_erasing)
    crop_flip, colours, final = create_transform(
        **data_config,
        is_training=True,
        separate=True,
        auto_augment=policy,
        color_jitter=color_jitter,  # type: ignore[arg-type]  # timm takes None for none
        re_prob=random_erasing,
        re_mode="pixel",
    )
    _keep_a_bit(colours.transforms)
    strong = [*colours.transforms, *final.transforms]  # the latter to tensor, normalise, erase
    if augment == "resized_crop_flip":
        return transforms.Compose([*_channels(data_config), *crop_flip.transforms, *strong])
    steps = list(eval_transform(data_config).transforms)
    to_tensor = next(i for i, step in enumerate(steps) if isinstance(step, MaybeToTensor))
    size = tuple(data_config["input_size"][-2:])
    extra: list[Callable] = []
    if augment.startswith("crop"):
        extra.append(transforms.RandomCrop(size, padding=(size[1] // 8, size[0] // 8)))
    if augment.endswith("flip"):
        extra.append(transforms.RandomHorizontalFlip())
    return transforms.Compose(steps[:to_tensor] + extra + strong)


def _channels(data_config: Mapping[str, Any]) -> list[Callable]:
    return [transforms.Grayscale()] if data_config["input_size"][0] == 1 else []


def _keep_a_bit(policies: list[Callable]) -> None:
    """At full strength timm's policies ask for images of 0 bits, which Pillow 13 refuses: give 1."""
    for policy in policies:
        for op in [*getattr(policy, "ops", ()), *chain.from_iterable(getattr(policy, "policy", ()))]:
            if op.aug_fn is auto_augment.posterize:
                op.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **options: Any) -> Image.Image:
    return auto_augment.posterize(image, max(1, bits), **options)


def check_augment(augment: str, policy: str | None, color_jitter: float | None, random_erasing: float) -> None:
    """Raise a UserError for settings of :func:`train_transform` that are not known, or out of range."""
    if augment not in AUGMENTATIONS:
        raise UserError(f"unknown augmentation '{augment}'. {nearest(augment, AUGMENTATIONS)}")
    if color_jitter is not None and not 0 < color_jitter <= 1:
        raise UserError(f"color_jitter={color_jitter} must lie in (0, 1]; null turns it off.")
    if not 0 <= random_erasing <= 1:
        raise UserError(f"random_erasing={random_erasing} is a probability, in [0, 1]; 0.25 is usual.")
    try:
        create_transform((3, 32, 32), is_training=True, auto_augment=policy)
    except Exception as error:  # assertions, or whatever an odd text provokes
        raise UserError(
            f"auto_augment '{policy}' is not timm's ({error}): e.g. rand-m9-mstd0.5-inc1, augmix-m5-w4, original."
        ) from None
