"""Images in the file format of MNIST and Fashion-MNIST: ``train-images-idx3-ubyte``, plain or as .gz."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from hwaware.data.labelled import Images
from hwaware.errors import UserError
from hwaware.system.reading import refuse_special

#: What a file's name begins with.
STEMS = {"train": "train", "test": "t10k"}

_UNSIGNED_BYTES = 8  # code of the only type that these data sets use


def find_idx(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Files of images and of labels by split, of those splits whose both files are in the folder."""
    found = {}
    for split, stem in STEMS.items():
        files = [sorted(folder.glob(f"*{stem}-{what}-ubyte*")) for what in ("images-idx3", "labels-idx1")]
        if all(files):
            found[split] = (files[0][0], files[1][0])
    return found


def read_idx(file: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of a file: two zero bytes, type, number of dimensions, their sizes (big-endian), the values.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        refuse_special(file, "IDX file")
        data = file.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is cut short or damaged ({error}).") from None
    sizes = np.frombuffer(data, ">u4", dimensions, 4) if len(data) >= 4 * (dimensions + 1) else np.zeros(0, int)
    if data[:4] != bytes([0, 0, _UNSIGNED_BYTES, dimensions]) or len(data) != 4 * (dimensions + 1) + sizes.prod():
        raise UserError(f"{file} is cut short, or no IDX file of bytes in {dimensions} dimensions.")
    return np.frombuffer(data, np.uint8, offset=4 * (dimensions + 1)).reshape(sizes)


class IdxImages(Images):
    """Grey images and their labels.

    Args:
        files: of the images and of the labels.
    """

    class_names = None

    def __init__(self, files: tuple[Path, Path]) -> None:
        self.file = files[0]
        self.pixels, labels = read_idx(files[0], 3), read_idx(files[1], 1)
        if len(self.pixels) != len(labels):
            raise UserError(f"{files[0]} has {len(self.pixels)} images, but {files[1]} {len(labels)} labels.")
        self.labels = labels.astype(np.int64)

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def where(self, index: int) -> str:
        return f"{self.file}, image {index}"
