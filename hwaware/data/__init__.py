"""Data sets as LightningDataModules."""

from hwaware.data.base import SampleData
from hwaware.data.images import ImageData
from hwaware.data.sources import Images, Source
from hwaware.data.squad import SquadData

__all__ = ["ImageData", "Images", "SampleData", "Source", "SquadData"]
