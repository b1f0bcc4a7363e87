"""From an image as a file stores it to 8-bit RGB, scaled by what its type can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hwaware.system.reading import refuse_special

#: TIFF's tags, and the values of two of them that Pillow leaves to its user.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2

_UNCLEAR = "its mode '{mode}' does not say which value is white: save it as 8-bit or 16-bit grey, or as RGB"


def open_image(path: str | Path) -> Image.Image:
    """An image file, of which the header is read.

    Raises:
        UserError: it is a folder, pipe or device.
        OSError, ValueError: it can't be read, or is no image.
    """
    refuse_special(path, "image")
    return Image.open(path)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB, upright as its EXIF data say.

    Grey values of 16 bits, or as many as a TIFF file says, are scaled by the largest of their type, floats by 1: Pillow
    cuts both off. Transparency is left out, as timm and torchvision leave it out.

    Args:
        image: of any of Pillow's modes.

    Raises:
        ValueError: its type does not say what is black and white, or it has floats beyond [0, 1].
    """
    image.load()  # a TIFF file's is turned by this already
    ImageOps.exif_transpose(image, in_place=True)
    tags = getattr(image, "tag_v2", {})
    if _SIGNED in _numbers(tags.get(_SAMPLE_FORMAT, ())):
        raise ValueError("it has signed numbers, which do not say what is black: save it as 8-bit or 16-bit grey")
    if image.mode[0] not in "IF":
        return image.convert("RGB")
    values = np.asarray(image, dtype=np.float64) / _largest(image, tags)
    if not ((values >= 0) & (values <= 1)).all():  # NaN neither
        low, high = values.min(), values.max()
        raise ValueError(f"its mode '{image.mode}' has values from {low:g} to {high:g}; floats must lie in [0, 1]")
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 1 - values
    return Image.fromarray(np.round(255 * values).astype(np.uint8)).convert("RGB")


def _largest(image: Image.Image, tags: dict) -> float:
    """What white is in an image of one channel of more than 8 bits."""
    if image.mode == "F":
        return 1.0
    if image.mode.startswith("I;16"):
        bits = max(_numbers(tags.get(_BITS, 16)))
        return 2.0**bits - 1
    if image.format == "PPM":  # which Pillow brings to 16 bits
        return 65535.0
    raise ValueError(_UNCLEAR.format(mode=image.mode))


def _numbers(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A tag's values: Pillow gives a single one without a tuple."""
    return value if isinstance(value, tuple) else (value,)
