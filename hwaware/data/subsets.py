"""Selection of rows of a split: ranges, and fixed stratified subsets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hwaware.errors import UserError

# Seeds of the fixed choices. They are constants, not options: a number measured on "2,000 images" means these images.
TEST_SUBSET_SEED = 20_001  # the --data.test_subset of a test set
VALIDATION_SEED = 20_002  # the tenth of a training set kept for validation
CALIBRATION_SEED = 20_004  # the order in which validation images are taken to calibrate with
FLAT_TEST_SEED = 20_005  # the fifth of a folder without splits kept for testing
DIGITS_TEST_SEED = 20_003  # the fifth of scikit-learn's digits kept for testing


def stratified_subset(labels: ArrayLike, size: int, seed: int, name: str = "size") -> np.ndarray:
    """Sorted indices of ``size`` rows that keep the share of each class; a smaller subset is part of a larger one.

    ``name`` is the option, for the message.

    Every row gets the place it has within its class, shuffled, as a fraction of the class; the lowest are taken.

    Raises:
        UserError: more rows are asked for than there are, or fewer than one.
    """
    labels = np.asarray(labels)
    if not 1 <= size <= len(labels):
        raise UserError(f"{name}={size} must lie in 1 … {len(labels)}, the samples that there are")
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = shuffled[labels[shuffled] == label]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    # among equal places the shuffled order decides, not the class
    order = shuffled[np.argsort(place[shuffled], kind="stable")]
    return np.sort(order[:size])


def row_range(name: str, rows: Sequence[int], n: int) -> np.ndarray:
    """Indices of the half-open range ``rows = [start, stop]`` of ``n`` rows; ``name`` is the option, for the message.

    Raises:
        UserError: not a non-empty range within the rows.
    """
    if len(rows) != 2 or not 0 <= rows[0] < rows[1] <= n:
        raise UserError(f"{name}={list(rows)} is not a range [start, stop] within the {n} training images")
    return np.arange(rows[0], rows[1])
