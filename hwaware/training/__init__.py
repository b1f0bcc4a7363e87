"""Training methods: device noise, retention loss, distillation, Mixup, clipping, layer-wise rates, biased training."""

from hwaware.training.adapters import Adapters
from hwaware.training.ages import AgeDistribution
from hwaware.training.batch_norms import batch_norms, synchronise_batch_norms
from hwaware.training.bias import MappingBias
from hwaware.training.class_weights import BALANCED, ClassWeights, check_class_weights, weights_of_classes
from hwaware.training.clipping import clip_weights_
from hwaware.training.distillation import Distillation, distillation_loss
from hwaware.training.groups import check_rates, freeze, optimizer_in_groups, scaled_rates
from hwaware.training.layer_decay import layer_depths
from hwaware.training.mixing import Mixing
from hwaware.training.noise import TrainingNoise, install_noise, remove_noise
from hwaware.training.ranges import RangeLearning, RangeParameters
from hwaware.training.retention import (
    RetentionLoss,
    install_retention,
    remove_retention,
    retention_loss,
    weight_for_share,
)
from hwaware.training.together import WAYS, Way, WeightsTogether, choose_way, install_way, remove_way

__all__ = [
    "BALANCED",
    "WAYS",
    "Adapters",
    "AgeDistribution",
    "ClassWeights",
    "Distillation",
    "MappingBias",
    "Mixing",
    "RangeLearning",
    "RangeParameters",
    "RetentionLoss",
    "TrainingNoise",
    "Way",
    "WeightsTogether",
    "batch_norms",
    "check_class_weights",
    "check_rates",
    "choose_way",
    "clip_weights_",
    "distillation_loss",
    "freeze",
    "install_noise",
    "install_retention",
    "install_way",
    "layer_depths",
    "optimizer_in_groups",
    "remove_noise",
    "remove_retention",
    "remove_way",
    "retention_loss",
    "scaled_rates",
    "synchronise_batch_norms",
    "weight_for_share",
    "weights_of_classes",
]
