"""Lightning modules around converted networks."""

from hwaware.tasks.base import HardwareAwareTask
from hwaware.tasks.image_classification import ImageClassification
from hwaware.tasks.question_answering import QuestionAnswering
from hwaware.tasks.schedule import WarmupCosine, WarmupLinear

__all__ = [
    "HardwareAwareTask",
    "ImageClassification",
    "QuestionAnswering",
    "WarmupCosine",
    "WarmupLinear",
]
