"""Samples for scoring many chips."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from hwaware.data import Samples

#: Largest size of decoded batches kept in memory; larger sets are read again for each chip and age.
CACHE_BYTES = 2**30


class Batches:
    """All batches of a split, on every rank, decoded once if they fit into memory.

    Args:
        datamodule: the data, set up for the split.
        split: ``test`` or ``val``.
        device: torch device of the batches when they are used.
    """

    def __init__(self, datamodule: LightningDataModule, split: str, device: torch.device) -> None:
        loader = {"val": datamodule.val_dataloader, "test": datamodule.test_dataloader}[split]()
        if isinstance(datamodule, Samples):
            self.loader = datamodule.every_sample(split)
        else:  # without the sampler, which may give each rank its own samples: ranks differ in their chips here
            batches = {"batch_size": loader.batch_size}
            if loader.batch_size is None and loader.batch_sampler is not None:
                batches = {"batch_sampler": loader.batch_sampler}
            how = {"num_workers": loader.num_workers, "collate_fn": loader.collate_fn}
            self.loader = DataLoader(loader.dataset, **batches, **how)
        self.device = device
        #: Number of the items that metrics count: questions, which may have several windows, or images.
        self.n_samples = datamodule.n_scored(split) if isinstance(datamodule, Samples) else len(loader.dataset)
        self._cache: list[Any] | None = None
        self._fits = True

    def __iter__(self) -> Iterator[Any]:
        if self._cache is not None:
            yield from (self._to_device(batch) for batch in self._cache)
            return
        kept, size = [], 0
        for batch in self.loader:
            size += sum(part.nbytes for part in batch)
            self._fits = self._fits and size <= CACHE_BYTES
            if self._fits:
                kept.append(batch)
            else:
                kept.clear()
            yield self._to_device(batch)
        if self._fits:
            self._cache = kept

    def _to_device(self, batch: Any) -> Any:
        return [part.to(self.device, non_blocking=True) for part in batch]


def digest(batches: Iterable[Any]) -> str:
    """A digest of the samples in batches and their order, whatever the batch size."""
    parts: dict[int, Any] = {}
    for batch in batches:
        for number, part in enumerate(batch):
            of_part = parts.setdefault(number, hashlib.blake2b(digest_size=8))
            of_part.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return "".join(of_part.hexdigest() for of_part in parts.values())
