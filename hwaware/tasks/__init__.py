"""Lightning modules around converted networks."""

from hwaware.tasks.base import HardwareAwareTask
from hwaware.tasks.image_classification import ImageClassification
from hwaware.tasks.options import DeviceOptions, KeepDigital
from hwaware.tasks.schedule import WarmupCosine

__all__ = ["DeviceOptions", "HardwareAwareTask", "ImageClassification", "KeepDigital", "WarmupCosine"]
