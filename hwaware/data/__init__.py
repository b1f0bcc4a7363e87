"""Data sets as LightningDataModules."""

from hwaware.data.images import ImageData
from hwaware.data.sources import Images, Source

__all__ = ["ImageData", "Images", "Source"]
