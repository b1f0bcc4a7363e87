"""Loaders with reproducible order and augmentation.

A training sample is determined by (seed, epoch, index), independent of rank, worker and earlier draws. So a resumed run
sees the same samples as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from hwaware.errors import UserError
from hwaware.system.signals import ignore_signals

# The samplers derive from DistributedSampler because Lightning then leaves them in place, and tells them the epoch.


def sample_key(seed: int, *what: int | str) -> int:
    """A 63-bit number that depends on all arguments and on nothing else (Python's hash of a string would)."""
    text = ":".join(map(str, (seed, *what)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@contextlib.contextmanager
def seeded(key: int, numpy: bool = False) -> Iterator[None]:
    """Runs the body with torch's (CPU) and Python's generators seeded by ``key``; restores them afterwards.

    numpy's generator only if ``numpy`` is set: few transforms draw from it, and saving its state is slow.
    """
    states = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(key)
    random.seed(key)
    if numpy:
        state = np.random.get_state()
        np.random.seed(key % 2**32)
    try:
        yield
    finally:
        if numpy:
            np.random.set_state(state)
        torch.set_rng_state(states[0])
        random.setstate(states[1])


def n_samples(dataset: Dataset) -> int:
    return len(dataset)  # type: ignore[arg-type]  # torch leaves it to datasets to have a length; those here do


class KeyedDataset(Dataset):
    """Training samples indexed by ``(index, key)``; the key seeds all their random numbers."""


class Seeded(KeyedDataset):
    """Any dataset, with the generators of torch, Python and numpy seeded by the key."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return n_samples(self.dataset)

    def __getitem__(self, item: tuple[int, int] | int) -> Any:
        # a plain index comes where Lightning replaces the sampler (overfit_batches)
        index, key = item if isinstance(item, tuple) else (item, item)
        with seeded(key, numpy=True):
            return self.dataset[index]


class ResumableSampler(DistributedSampler):
    """Shuffled (index, key) pairs of one rank; the key seeds the augmentation of that sample in that epoch.

    All ranks get the same number of samples; the remainder is dropped, another one in each epoch.

    Attributes:
        start_batch: number of batches that the next iteration skips, since they were already trained on.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        # torch shuffles with seed + epoch; spread seeds, so that seed 0 in epoch 1 is not seed 1 in epoch 0
        order_seed = sample_key(seed, "order") % 2**32
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=order_seed, drop_last=True)
        self.key_seed = seed
        self.batch_size = batch_size
        self.start_batch = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        indices = self.arranged(list(super().__iter__()))[self.start_batch * self.batch_size :]
        return iter([(index, sample_key(self.key_seed, self.epoch, index)) for index in indices])

    def arranged(self, indices: list[int]) -> list[int]:
        """The epoch's order, from the shuffled one."""
        return indices


class SequenceDataset(KeyedDataset):
    """Training samples of different lengths.

    Attributes:
        lengths: of the samples, in their order.
    """

    lengths: np.ndarray


class LengthGroupedSampler(ResumableSampler):
    """Batches of samples of about equal length, in random order: less padding."""

    dataset: SequenceDataset

    #: Batches among whose samples those of a length are looked for.
    pool = 50

    def arranged(self, indices: list[int]) -> list[int]:
        size, lengths = self.batch_size, self.dataset.lengths
        whole = len(indices) // size * size
        batches = []
        for begin in range(0, whole, self.pool * size):
            alike = sorted(indices[begin : min(begin + self.pool * size, whole)], key=lambda index: -lengths[index])
            batches += [alike[at : at + size] for at in range(0, len(alike), size)]
        # The same order of batches on all ranks, whose lengths then are alike too: none waits long for the others.
        random.Random(sample_key(self.key_seed, "batches", self.epoch)).shuffle(batches)
        return [index for batch in batches for index in batch] + indices[whole:]


class LabelledDataset(KeyedDataset):
    """Training samples of classes.

    Attributes:
        labels: of the samples, in their order.
    """

    labels: np.ndarray


class BalancedSampler(ResumableSampler):
    """Equally many samples of each class in an epoch of unchanged length; samples of small classes are repeated.

    All samples of a class are used before one is repeated; each repetition has another key for the augmentation.
    """

    dataset: LabelledDataset

    def __iter__(self) -> Iterator[tuple[int, int]]:
        total = self.num_samples * self.num_replicas
        draw = np.random.RandomState(sample_key(self.key_seed, "balanced", self.epoch) % 2**32)
        labels = np.asarray(self.dataset.labels)
        classes = draw.permutation(np.unique(labels))
        found: list[tuple[int, int]] = []  # indices, and how often each was taken before
        for place, label in enumerate(classes):
            rows, wanted = np.flatnonzero(labels == label), total // len(classes) + (place < total % len(classes))
            passes = -(-wanted // len(rows))
            taken = [(int(index), before) for before in range(passes) for index in draw.permutation(rows)]
            found += taken[:wanted]
        order = [found[at] for at in draw.permutation(total)][self.rank :: self.num_replicas]
        left = order[self.start_batch * self.batch_size :]
        return iter([(index, sample_key(self.key_seed, self.epoch, index, before)) for index, before in left])


class EverySampleSampler(DistributedSampler):
    """In order, each sample on one rank only and none twice (torch's sampler repeats some to make ranks equal)."""

    def __init__(self, dataset: Dataset, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, shuffle=False)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, n_samples(self.dataset), self.num_replicas))

    def __len__(self) -> int:
        return len(range(self.rank, n_samples(self.dataset), self.num_replicas))


class SampleLoader(DataLoader):
    """A DataLoader whose workers' UserErrors keep their one line, and which leaves torch's global generator alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # torch draws a base seed for its workers from this generator, else from the global one
        super().__init__(*args, **{"generator": torch.Generator(), "worker_init_fn": ignore_signals, **kwargs})

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # where torch has a class of its own
        batches = super().__iter__()
        message = None
        while message is None:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except UserError as error:
                # a worker's exception arrives as its traceback, the message last
                message = str(error).rpartition("UserError: ")[2].strip()
                error.__traceback__ = None
            else:
                yield batch
        # The first error's frames hold the iterator with its workers, in a cycle that torch makes: let go of them, or
        # the workers wait for a garbage collection that then takes five seconds.
        del batches
        self._iterator = None
        raise UserError(message)


class ResumableLoader(SampleLoader):
    """A training loader that continues in the middle of an epoch.

    Lightning saves how many batches of the epoch are done, but then expects the loader to continue there; so the loader
    asks ``batches_done`` when the first batch of an epoch is drawn. (Not when ``iter`` is called: Lightning does that
    before it has told the sampler the epoch.) A batch that was drawn but not trained when the checkpoint was written
    is drawn again.
    """

    sampler: ResumableSampler
    batches_done: Callable[[], int] = staticmethod(lambda: 0)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # see above
        self.sampler.start_batch = self.batches_done()
        yield from super().__iter__()

    # Nothing to save beyond Lightning's own counter; their presence tells Lightning that the loader can resume.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
