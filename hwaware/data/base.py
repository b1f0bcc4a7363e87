"""Base class of data modules: three splits, each opened when it is needed, and their loaders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, ClassVar, Literal

import numpy as np
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from hwaware.data.contract import ImageInputs, Samples, TakesSamples, TextInputs
from hwaware.data.loading import (
    EverySampleSampler,
    KeyedDataset,
    ResumableLoader,
    ResumableSampler,
    SampleLoader,
    Seeded,
    n_samples,
)
from hwaware.data.subsets import CALIBRATION_SEED
from hwaware.errors import UserError

#: Processes that load data, at most: far more than a machine has cores, and few enough for it to survive.
MAX_WORKERS = 1000


class SampleData(LightningDataModule, Samples):
    """Training, validation and test samples; a batch is a list of tensors, the network's input first.

    A custom data set defines :attr:`dataset_name`, and opens a split in :meth:`dataset`.

    Args:
        batch_size: samples per training step and process.
        eval_batch_size: samples per evaluation step.
        num_workers: worker processes that load samples (0: the main process loads them).
        seed: seed of order and augmentation; None: the run's seed (0 without a run).

    After ``setup``: ``n_train``, ``n_val``, ``n_test`` samples (0 for splits that were not needed).
    """

    #: What a sample is, for messages.
    noun: ClassVar[str] = "samples"
    #: What has to be known of the network for samples to be prepared; None: nothing.
    needs: ClassVar[type[ImageInputs] | type[TextInputs] | None] = None
    #: What is known of it. The Trainer's task says so; without a Trainer it is set before ``setup``.
    inputs: ImageInputs | TextInputs | None = None
    #: From samples to a batch.
    collate: Callable[[list[Any]], list[Tensor]] = staticmethod(default_collate)
    #: Makes the order of training samples.
    sampler: Callable[..., ResumableSampler] = ResumableSampler

    def __init__(
        self, batch_size: int = 128, eval_batch_size: int = 256, num_workers: int = 0, seed: int | None = None
    ) -> None:
        super().__init__()
        sizes = ("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1), ("num_workers", num_workers, 0)
        for option, value, least in sizes:
            if value < least:
                raise UserError(f"{option}={value} is below {least}")
        if num_workers > MAX_WORKERS:
            raise UserError(f"num_workers={num_workers} must be at most {MAX_WORKERS:,}; one for each core is usual.")
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed = seed
        self._datasets: dict[str, Dataset] = {}

    @abstractmethod
    def dataset(self, split: str) -> Dataset:
        """Opens and checks ``train``, ``val`` or ``test``: any torch dataset; its random numbers are seeded."""

    def setup(self, stage: Literal["fit", "validate", "test", "predict"] | str | None = None) -> None:
        """Opens, checks and (if small) prepares the splits that ``stage`` needs; None: all of them."""
        self._read_inputs()
        wanted = {"fit": ("train", "val"), "validate": ("val",), None: ("train", "val", "test")}.get(stage, ("test",))
        for split in wanted:
            if split not in self._datasets:
                dataset = self.dataset(split)
                keyed = split != "train" or isinstance(dataset, KeyedDataset)
                self._datasets[split] = dataset if keyed else Seeded(dataset)

    def _read_inputs(self) -> None:
        """Gets the preparation of samples from the Trainer's task, if there is one."""
        task = self.trainer.lightning_module if self.trainer is not None else None
        if isinstance(task, TakesSamples) and task.inputs is not None:
            self.inputs = task.inputs
        if self.needs is not None and not isinstance(self.inputs, self.needs):
            mine, wanted = type(self).__name__, self.needs.__name__
            if self.inputs is not None:
                given = type(self.inputs).__name__
                raise UserError(f"{mine} is not for {type(task).__name__}, which takes {given}, not {wanted}.")
            raise UserError(
                f"{mine} does not know the network's {self.needs.what}: use it with a Trainer, or set data.inputs = "
                f"{wanted}({self.needs.example})"
            )

    def train_dataloader(self) -> DataLoader:
        dataset = self._datasets["train"]
        self._check_batch_size(n_samples(dataset) // self._replicas()["num_replicas"])
        loader = ResumableLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=self.sampler(dataset, self.batch_size, self.seed or 0, **self._replicas()),
            drop_last=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=self.collate,
        )
        if self.trainer is not None:
            fit_loop = self.trainer.fit_loop
            loader.batches_done = lambda: fit_loop.batch_idx + 1  # batch_idx: of the batch before the next one
        return loader

    def val_dataloader(self) -> DataLoader:
        """Each sample on one rank."""
        return self._eval_loader("val", **self._replicas())

    def test_dataloader(self) -> DataLoader:
        """Every sample on every rank, since ranks evaluate different chips, not different samples."""
        return self.every_sample("test")

    def every_sample(self, split: str) -> DataLoader:
        """A split's loader with all samples on every rank."""
        return self._eval_loader(split)

    def n_scored(self, split: str) -> int:
        return n_samples(self._datasets[split])

    def fitting_batches(self, seed: int) -> Iterator[list[Tensor]]:
        dataset = self._datasets["train"]
        self._check_batch_size(n_samples(dataset))
        sampler = self.sampler(dataset, self.batch_size, seed)
        loader = SampleLoader(dataset, self.batch_size, sampler=sampler, drop_last=True, collate_fn=self.collate)
        for epoch in count():
            sampler.set_epoch(epoch)
            yield from loader

    def calibration_batch(self, n: int) -> list[Tensor]:
        """The first ``n`` validation samples in a fixed order, prepared as for evaluation, with labels."""
        return self.collate([self._datasets["val"][int(index)] for index in self._calibration_order(n)])

    def validation_batches(self, n: int) -> Iterator[list[Tensor]]:
        yield from self._in_batches("val", np.sort(self._calibration_order(n)))

    def _in_batches(self, split: str, indices: Sequence[int] | np.ndarray) -> Iterator[list[Tensor]]:
        for begin in range(0, len(indices), self.eval_batch_size):
            part = indices[begin : begin + self.eval_batch_size]
            yield self.collate([self._datasets[split][int(index)] for index in part])

    def _calibration_order(self, n: int) -> np.ndarray:
        n_val = n_samples(self._datasets["val"])
        if n > n_val:
            raise UserError(f"{n} calibration {self.noun} were requested, but there are {n_val} for validation")
        return np.random.RandomState(CALIBRATION_SEED).permutation(n_val)[:n]

    @property
    def n_train(self) -> int:
        return self._n("train")

    @property
    def n_val(self) -> int:
        return self._n("val")

    @property
    def n_test(self) -> int:
        return self._n("test")

    @property
    def described(self) -> str:
        """The number and kind of samples of each split that is set up, in words."""
        words = {"train": "training", "val": "validation", "test": "test"}
        counts = [f"{self._counted(split)} {word}" for split, word in words.items() if split in self._datasets]
        return f"data: {', '.join(counts)} {self.noun} of {self.dataset_name}"

    def _counted(self, split: str) -> str:
        return f"{self._n(split):,}"

    def _n(self, split: str) -> int:
        return n_samples(self._datasets[split]) if split in self._datasets else 0

    def _check_batch_size(self, per_process: int) -> None:
        if per_process < self.batch_size:  # incomplete batches are dropped, so that there would be no step at all
            raise UserError(
                f"batch_size={self.batch_size} is above the {per_process} training {self.noun} of a process"
            )

    def _eval_loader(self, split: str, **replicas: int) -> DataLoader:
        dataset = self._datasets[split]
        return SampleLoader(
            dataset,
            batch_size=self.eval_batch_size,
            sampler=EverySampleSampler(dataset, **replicas),
            # what is in memory needs no workers
            num_workers=0 if getattr(dataset, "in_memory", False) else self.num_workers,
            collate_fn=self.collate,
        )

    def _replicas(self) -> dict[str, int]:
        kwargs = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        return dict(kwargs or {"num_replicas": 1, "rank": 0})
