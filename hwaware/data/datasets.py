"""Torch datasets over a split: small ones decoded once into memory, large ones image by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from hwaware.data.labelled import Images
from hwaware.data.loading import LabelledDataset, seeded

CACHE_BYTES = 512 * 2**20  # a split that is larger than this when decoded stays where it is


class InMemory(Images):
    """A split decoded into one uint8 array (n, H, W, 3)."""

    def __init__(self, images: Images, pixels: np.ndarray) -> None:
        self.images, self.pixels = images, pixels
        self.labels, self.class_names = images.labels, images.class_names

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def where(self, index: int) -> str:
        return self.images.where(index)


def in_memory(images: Images, show_progress: bool = False) -> Images:
    """``images``, decoded once if they are small and of one size; else unchanged, to be decoded when used.

    Raises:
        UserError: an image cannot be decoded.
    """
    size = images.rgb(0).size
    if 3 * size[0] * size[1] * len(images) > CACHE_BYTES:
        return images
    pixels = np.empty((len(images), size[1], size[0], 3), dtype=np.uint8)
    for i in _progress(len(images), "decoding images", show_progress):
        image = images.rgb(i)
        if image.size != size:
            return images
        pixels[i] = np.asarray(image)
    return InMemory(images, pixels)


class TrainDataset(LabelledDataset):
    """(index, key) → (float32 image (3, H, W), label), augmented by what the key alone decides.

    Args:
        images: the split.
        transform: from a PIL image to a tensor.
        numpy: whether it draws from numpy's generator as well.
    """

    def __init__(self, images: Images, transform: Callable, numpy: bool = False) -> None:
        self.images, self.transform, self.numpy = images, transform, numpy
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: tuple[int, int] | int) -> tuple[Tensor, int]:
        # a plain index comes where Lightning replaces the sampler (overfit_batches)
        index, key = item if isinstance(item, tuple) else (item, item)
        with seeded(key, self.numpy):
            return self.transform(self.images.rgb(index)), int(self.images.labels[index])


class EvalDataset(Dataset):
    """Index → (float32 image (3, H, W), label). Small sets are preprocessed once: chips read them many times."""

    def __init__(self, images: Images, transform: Callable, show_progress: bool = False) -> None:
        self.images, self.transform = images, transform
        self.inputs: Tensor | None = None
        first = transform(images.rgb(0))
        if first.nbytes * len(images) <= CACHE_BYTES:
            self.inputs = torch.empty(len(images), *first.shape)
            for i in _progress(len(images), "preprocessing images", show_progress):
                self.inputs[i] = transform(images.rgb(i))

    @property
    def in_memory(self) -> bool:
        return self.inputs is not None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = self.transform(self.images.rgb(index)) if self.inputs is None else self.inputs[index]
        return x, int(self.images.labels[index])


def _progress(n: int, what: str, show: bool) -> Iterable[int]:
    # for less, a bar only flickers
    return track(range(n), what, transient=True, disable=not show or n < 500)
