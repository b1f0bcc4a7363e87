"""What a training step adds: device noise, retention loss, weight clipping."""

from hwaware.training.ages import AgeDistribution
from hwaware.training.clipping import clip_weights_
from hwaware.training.noise import TrainingNoise, install_noise, remove_noise
from hwaware.training.retention import RetentionLoss, install_retention, remove_retention, retention_loss

__all__ = [
    "AgeDistribution",
    "RetentionLoss",
    "TrainingNoise",
    "clip_weights_",
    "install_noise",
    "install_retention",
    "remove_noise",
    "remove_retention",
    "retention_loss",
]
