"""A custom data set: images from any source; splits, preprocessing and subsets come from ImageData.

A network is trained on it; from this folder::

    hwaware fit --config digits.yaml --recipe stripes --trainer.max_epochs 2 \
        --data own_data.StripesData --data.batch_size 50 \
        --model ImageClassification --model.name lenet5 --model.num_classes 2

For samples that are not images, derive from :class:`hwaware.data.SampleData`, which asks for a name and a torch
dataset.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from hwaware.data import ImageData, Images, Source


class Stripes(Images):
    """Bars that lie or stand, on noise.

    Args:
        n: images.
        seed: of the noise, and of where the bars are.
    """

    class_names = ("lying", "standing")

    def __init__(self, n: int, seed: int) -> None:
        draw = np.random.RandomState(seed)
        self.labels = draw.randint(0, 2, n)
        self.pixels = draw.randint(0, 100, (n, 8, 8, 3)).astype(np.uint8)
        for pixels, label in zip(self.pixels, self.labels, strict=True):
            where = draw.randint(1, 7)
            pixels[(where,) if label == 0 else (slice(None), where)] = 255

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def where(self, index: int) -> str:
        return f"stripes {index}"


class StripesData(ImageData):
    """Stripes by the hundred; a tenth of the training images is kept to validate on."""

    @cached_property
    def origin(self) -> Source:
        return Source("stripes", {"train": lambda: Stripes(400, 0), "test": lambda: Stripes(100, 1)})
