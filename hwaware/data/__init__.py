"""Data sets as LightningDataModules."""

from hwaware.data.images import ImageData

__all__ = ["ImageData"]
