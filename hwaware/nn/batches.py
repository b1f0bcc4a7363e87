"""Batches: lists of tensors whose first dimension counts samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor


def split_batch(batch: Sequence[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Splits a batch into parts of about equal length, at most ``size``."""
    parts = -(-len(batch[0]) // size)
    return map(list, zip(*(tensor.tensor_split(parts) for tensor in batch), strict=True))
