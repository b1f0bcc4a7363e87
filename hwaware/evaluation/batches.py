"""Samples for scoring many chips."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from hwaware.data import Samples

#: Largest size of decoded batches kept in memory; what is beyond it is kept in temporary files.
CACHE_BYTES = 2**30

#: Disk space that must stay free, as a multiple of what the temporary files take.
_FREE_SHARE = 2


class Batches:
    """All batches of a split, on every rank, decoded once if they fit into memory and temporary files.

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
        self._kept: _Kept | None = None
        self._fits = True

    def __iter__(self) -> Iterator[Any]:
        if self._kept is not None:
            yield from map(self._to_device, self._kept.batches)
            return
        kept = _Kept()
        for batch in self.loader:
            if self._fits and not kept.add(batch):
                self._fits, kept = False, _Kept()
                rank_zero_info(
                    f"{tempfile.gettempdir()} has no room for the decoded samples: they are decoded again for each "
                    "chip and age. TMPDIR may name another folder."
                )
            yield self._to_device(batch)
        if self._fits:
            self._kept = kept

    def _to_device(self, batch: Any) -> Any:
        return [part.to(self.device, non_blocking=True) for part in batch]


class _Kept:
    """Decoded batches: in memory up to ``CACHE_BYTES``, then in files that are mapped into memory.

    A file has no name any more once it is mapped, so that a killed run leaves none.
    """

    def __init__(self) -> None:
        self.batches: list[Sequence[Tensor]] = []
        self._size = self._on_disk = 0

    def add(self, batch: Sequence[Tensor]) -> bool:
        """Keeps a batch if there is room."""
        size = sum(part.nbytes for part in batch)
        self._size += size
        if self._size > CACHE_BYTES:
            self._on_disk += size
            if shutil.disk_usage(tempfile.gettempdir()).free < size + _FREE_SHARE * self._on_disk:
                return False
            try:
                batch = _mapped(batch)
            except (OSError, RuntimeError):  # the latter is torch's, for a full disk
                return False
        self.batches.append(batch)
        return True


def _mapped(batch: Sequence[Tensor]) -> Sequence[Tensor]:
    with tempfile.NamedTemporaryFile(prefix="hwaware-", suffix=".pt") as file:
        torch.save([part.clone() for part in batch], file.name)  # a view would be saved with all that it is a view of
        return torch.load(file.name, mmap=True, weights_only=True)


def digest(batches: Iterable[Any]) -> str:
    """A digest of the samples in batches and their order, whatever the batch size."""
    parts: dict[int, Any] = {}
    for batch in batches:
        for number, part in enumerate(batch):
            of_part = parts.setdefault(number, hashlib.blake2b(digest_size=8))
            of_part.update(part.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return "".join(of_part.hexdigest() for of_part in parts.values())
