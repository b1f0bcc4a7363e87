"""Labelled images of one split: labels at once, images one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from PIL import Image

from hwaware.data.decoding import to_rgb
from hwaware.errors import UserError


class Images(ABC):
    """Labelled images of one split.

    Attributes:
        labels: (n,) int64, class of each image.
        class_names: name of each class, or None where the source does not say.
    """

    labels: np.ndarray
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """The image as it is stored."""

    @abstractmethod
    def where(self, index: int) -> str:
        """Where the image is stored: file, or row of a file."""

    def rgb(self, index: int) -> Image.Image:
        """The decoded image, 8-bit RGB (:func:`~hwaware.data.decoding.to_rgb`).

        Raises:
            UserError: it can't be decoded, or the meaning of its values is unknown; the message names the image.
        """
        try:
            return to_rgb(self.open(index))
        except Exception as error:  # decoders raise anything on damaged data
            raise UserError(f"cannot read the image in {self.where(index)}: {error}") from error


class Subset(Images):
    """The given rows of another split."""

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows
        self.labels = images.labels[rows]
        self.class_names = images.class_names

    def open(self, index: int) -> Image.Image:
        return self.images.open(int(self.rows[index]))

    def where(self, index: int) -> str:
        return self.images.where(int(self.rows[index]))
