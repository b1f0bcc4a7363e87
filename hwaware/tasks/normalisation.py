"""Detects images that are normalised differently from those that a pretrained network was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from torch import Tensor

#: The two pairs of mean and standard deviation that nearly all of timm's weights were trained with.
_USUAL = (
    (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD),
)

#: Number of images for the check, and the improvement (in points, and in standard errors) that gives a warning.
IMAGES = 128
_POINTS, _ERRORS = 5.0, 3.0


@torch.no_grad()
def better_normalised(
    predict: Callable[[Any], Tensor], batches: Iterable[Any], config: Mapping[str, Any]
) -> str | None:
    """A warning if the other usual normalisation gives a far better accuracy; None otherwise.

    Args:
        predict: function from a batch to logits ``[N, C]`` of the exact network.
        batches: batches of images and labels, as they are prepared now; the first :data:`IMAGES` images are used.
        config: mean and std that they are prepared with.
    """
    hits: dict[int, list[Tensor]] = {}
    own_hits: list[Tensor] = []
    n = 0
    for images, labels, *_ in batches:
        taken, labels = images[: IMAGES - n], labels[: IMAGES - n]
        mean, std = (_along(config[name], taken) for name in ("mean", "std"))
        for number, (their_mean, their_std) in enumerate(_USUAL):
            other = (taken * std + mean - _along(their_mean, taken)) / _along(their_std, taken)
            if not torch.allclose(other, taken, atol=0.05):
                hits.setdefault(number, []).append(predict((other, labels)).argmax(-1) == labels)
        own_hits.append(predict((taken, labels)).argmax(-1) == labels)
        if (n := n + len(taken)) >= IMAGES:
            break
    if not hits:
        return None
    own = torch.cat(own_hits)
    found = {number: torch.cat(parts) for number, parts in hits.items()}
    best = max(found, key=lambda number: int(found[number].sum()))
    gained, lost = int((found[best] & ~own).sum()), int((own & ~found[best]).sum())
    if gained - lost < max(_POINTS / 100 * n, _ERRORS * math.sqrt(gained + lost)):
        return None
    now, then = (100 * right.float().mean() for right in (own, found[best]))
    said_mean, said_std = (_said(values) for values in _USUAL[best])
    return (
        f"the digital network is right on {now:.0f} % of {n} images as they are normalised now, but on {then:.0f} % "
        f"with data.mean {said_mean} and data.std {said_std}: were its weights trained with these?"
    )


def _along(values: Any, images: Tensor) -> Tensor:
    """Values of the channels, broadcast over images; their mean for a single channel."""
    found = torch.tensor(tuple(values), dtype=images.dtype, device=images.device)
    if len(found) != images.shape[1]:
        found = found.mean().expand(images.shape[1])
    return found.view(1, -1, 1, 1)


def _said(values: tuple[float, ...]) -> str:
    return f"{values[0]}" if len(set(values)) == 1 else f"{list(values)}"
