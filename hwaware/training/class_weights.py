"""Weights of classes in the loss, for classes of unequal size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from hwaware.errors import UserError, nearest

BALANCED = "balanced"

#: The setting in a recipe: ``balanced``, or weights by class, with 1 for all others.
ClassWeights = Literal["balanced"] | dict[str, float]


def check_class_weights(given: ClassWeights | None) -> None:
    """Raises UserError for weights that are invalid for any classes."""
    if not isinstance(given, Mapping):
        return
    if not given:
        raise UserError("class_weights is empty: give {class: weight}, 'balanced', or null for none.")
    for name, weight in given.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"class_weights {name}={weight} must be 0 or more; other classes have 1.")
    if not any(given.values()) and len(given) > 1:
        raise UserError("class_weights are all 0: no image would count.")


def weights_of_classes(given: ClassWeights, names: Sequence[str], counts: Sequence[int]) -> Tensor:
    """The weight of each class, ``[C]``.

    ``balanced`` is ``N / (K·n_c)`` for N images in K classes, n_c of them in this class: all classes count alike, and
    the mean over images is 1 (as in scikit-learn). Classes without training images have weight 1.

    Args:
        given: the setting in the recipe.
        names: names of the classes.
        counts: number of training images of each class; empty if unknown.

    Raises:
        UserError: a class is unknown, or ``balanced`` is set and the counts are unknown.
    """
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in names]:
            hint = nearest(unknown[0], names)
            raise UserError(f"class_weights: the data have no class '{unknown[0]}'. {hint}".rstrip())
        return torch.tensor([float(given.get(name, 1.0)) for name in names])
    if not counts:
        raise UserError(
            "class_weights 'balanced': the data do not say how many training images each class has; give {class: "
            "weight}."
        )
    there = [count for count in counts if count]
    return torch.tensor([sum(there) / (len(there) * count) if count else 1.0 for count in counts])
