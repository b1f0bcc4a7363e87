"""What tasks and data ask of each other, and what is said where they do not have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from hwaware.data import ImageData, ImageInputs, SampleData, SquadData, TextInputs
from hwaware.data.contract import TakesSamples, dataset_name, samples_of
from hwaware.errors import UserError
from hwaware.evaluation.batches import Batches


class Ramps(SampleData):
    """All that a data set of one's own has to say."""

    dataset_name = "ramps"

    def dataset(self, split: str) -> TensorDataset:
        n = {"train": 20, "val": 10, "test": 7}[split]
        return TensorDataset(torch.arange(n).float()[:, None], torch.arange(n))


class Bare(LightningDataModule):
    """Loaders alone."""

    def val_dataloader(self) -> DataLoader:
        dataset = TensorDataset(torch.arange(5).float()[:, None], torch.arange(5))
        return DataLoader(dataset, batch_size=2, shuffle=True)


def test_own_samples_are_complete():
    data = Ramps(batch_size=8, eval_batch_size=4)
    data.setup()
    assert (data.n_train, data.n_val, data.n_test, data.n_scored("test")) == (20, 10, 7, 7)
    assert dataset_name(data) == "ramps" and samples_of(data, "why") is data
    assert sorted(data.calibration_batch(10)[1].tolist()) == list(range(10))
    assert [len(x) for x, _ in data.validation_batches(6)] == [4, 2]
    assert len(next(data.fitting_batches(0))[0]) == 8
    assert len({int(y) for _, labels in data.train_dataloader() for y in labels}) == 16
    batches = Batches(data, "test", torch.device("cpu"))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(7)) and batches.n_samples == 7


def test_what_is_random_in_own_training_samples_follows_from_the_seed():
    class Noisy(Ramps):
        def dataset(self, split: str) -> TensorDataset:
            class Noise(TensorDataset):
                def __getitem__(self, index):
                    x, y = super().__getitem__(index)
                    return x + torch.rand(1) + np.random.rand(), y

            return Noise(*super().dataset(split).tensors)

    def drawn(seed: int) -> dict[int, float]:
        data = Noisy(batch_size=10, seed=seed)
        data.setup("fit")
        torch.rand(seed + 1)
        return {int(y): float(x) for batch in data.train_dataloader() for x, y in zip(*batch, strict=True)}

    assert drawn(0) == drawn(0) != drawn(1) and len(drawn(0)) == 20


def test_a_data_module_with_loaders_alone_can_be_scored_on():
    batches = Batches(Bare(), "val", torch.device("cpu"))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(5)) and batches.n_samples == 5
    assert dataset_name(Bare()) == "Bare"


@pytest.mark.parametrize(
    ("datamodule", "reason"),
    [(None, "^repairs are fitted: give a data module.$"), (Bare(), "^repairs are fitted: Bare has none; derive it")],
)
def test_data_without_samples_to_calibrate_on(datamodule, reason):
    with pytest.raises(UserError, match=reason):
        samples_of(datamodule, "repairs are fitted")


class Silent(LightningModule):
    """Says nothing of what it takes."""


class Reader(LightningModule, TakesSamples):
    inputs = TextInputs(None)


def connected(task: LightningModule, data: SampleData) -> SampleData:
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    data.trainer.strategy.connect(task)
    return data


def test_a_task_for_other_samples_is_told_so():
    with pytest.raises(UserError, match="ImageData is not for Reader, which takes TextInputs, not ImageInputs"):
        connected(Reader(), ImageData()).setup()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (ImageData(), "does not know the network's preprocessing: .* data.inputs = ImageInputs\\(timm.data"),
        (SquadData(), "does not know the network's tokenizer: .* data.inputs = TextInputs\\(AutoTokenizer"),
    ],
)
def test_a_task_that_does_not_say_what_it_takes(data, reason):
    with pytest.raises(UserError, match=reason):
        connected(Silent(), data).setup()


def test_what_is_set_by_hand_counts_where_the_task_says_nothing():
    data = connected(Silent(), ImageData())
    data.inputs = ImageInputs({"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,), "crop_pct": 1.0})
    data.setup("test")
    assert data.n_test == 359
