"""Preprocessing options of a recipe, where they differ from timm's for the network's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torchvision.transforms import InterpolationMode

from hwaware.data.contract import ImageInputs
from hwaware.errors import UserError, nearest

_INTERPOLATIONS = tuple(mode.value for mode in InterpolationMode)


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing that differs from the network's; None: the network's.

    Attributes:
        mean, std: normalisation of values in [0, 1], for each channel or for all.
        crop_pct: fraction of the image's side that is kept: images are resized to the network's size over this.
        interpolation: name of the interpolation in torchvision.
        image_size: side of the network's input in pixels, or height and width.

    Raises:
        UserError: a value is out of range.
    """

    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    image_size: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, low in (("mean", "[0"), ("std", "(0")):
            for value in _many(getattr(self, name)):
                if not (0 <= value <= 1 and (value > 0 or name == "mean")):
                    of_bytes = f" {value} of bytes is {value / 255:.3g}." if 1 < value <= 255 else ""
                    raise UserError(f"data.{name}={value} must lie in {low}, 1], as pixels do.{of_bytes}")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise UserError(f"data.crop_pct={self.crop_pct} must lie in (0, 1]; 0.875 and 1 are usual.")
        if self.interpolation is not None and self.interpolation not in _INTERPOLATIONS:
            hint = nearest(self.interpolation, _INTERPOLATIONS)
            raise UserError(f"data.interpolation '{self.interpolation}' is unknown. {hint}")
        sizes = _many(self.image_size)
        if self.image_size is not None and (len(sizes) not in (1, 2) or min(sizes) < 1):
            raise UserError(
                f"data.image_size={self.image_size} must be a side in pixels, or height and width; e.g. 224."
            )

    def applied(self, inputs: ImageInputs) -> dict[str, Any]:
        """The network's data config with these changes.

        Raises:
            UserError: values for another number of channels, images of a size that the network does not take, or a
                network of other than grey or coloured images.
        """
        config = dict(inputs.data_config)
        channels, *size = config["input_size"]
        if channels not in (1, 3):
            raise UserError(
                f"the network takes {channels} channels, and images have 3, or 1: set model.kwargs.in_chans."
            )
        if self.image_size is not None:
            sides = _many(self.image_size)
            wanted = [sides[0], sides[-1]]
            if inputs.size == "fixed" and wanted != size:
                raise UserError(
                    f"data.image_size={self.image_size}: the network takes images of {size[0]} × {size[1]} alone; "
                    f"model.kwargs.img_size {self.image_size} makes one for others."
                )
            size = wanted
        elif inputs.size == "unknown":
            rank_zero_warn(
                f"the network names no size of its images: they are brought to {size[0]} × {size[1]}, timm's usual. "
                "Set data.image_size."
            )
        config["input_size"] = (channels, *size)
        for name in ("mean", "std"):
            given = _many(getattr(self, name)) or tuple(config[name])
            if getattr(self, name) is not None and len(given) not in (1, channels):
                raise UserError(f"data.{name} has {len(given)} values, and the network {channels} channels.")
            # a network of grey images whose name in timm is of coloured ones
            config[name] = given if len(given) == channels else (sum(given) / len(given),) * channels
        for name in ("crop_pct", "interpolation"):
            if getattr(self, name) is not None:
                config[name] = getattr(self, name)
        return config


def _many(value: Any) -> tuple[Any, ...]:
    return () if value is None else tuple(value) if isinstance(value, Sequence) else (value,)
