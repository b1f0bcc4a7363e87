"""Data sets as LightningDataModules."""

from hwaware.data.base import SampleData
from hwaware.data.contract import ImageInputs, Samples, TextInputs
from hwaware.data.images import ImageData
from hwaware.data.labelled import Images
from hwaware.data.sources import Source
from hwaware.data.squad import SquadData

__all__ = ["ImageData", "ImageInputs", "Images", "SampleData", "Samples", "Source", "SquadData", "TextInputs"]
