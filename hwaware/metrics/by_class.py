"""Accuracy by class and their mean (balanced accuracy), for classes of unequal size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hwaware.results.row import OF_CLASS


def accuracy_by_class(hits: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Accuracy (percent) of each class, and ``balanced``, their mean; classes without samples are left out.

    Args:
        hits: whether each sample is right, bool ``[N]``.
        labels: the class of each sample, ``[N]``.
        names: names of the classes.
    """
    totals = torch.bincount(labels, minlength=len(names))
    right = torch.bincount(labels[hits], minlength=len(names))
    found = {name: 100 * right[at].item() / totals[at].item() for at, name in enumerate(names) if totals[at]}
    balanced = sum(found.values()) / len(found)
    return {"balanced": round(balanced, 4)} | {f"{OF_CLASS}{name}": round(one, 4) for name, one in found.items()}
