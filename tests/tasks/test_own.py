"""A task of one's own: what it defines is all that it needs."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import R2Score

from hwaware.hardware import HardwareOptions
from hwaware.nn import analog_layers
from hwaware.tasks import HardwareAwareTask


class Regression(HardwareAwareTask):
    """Four members; its fields are set after the base class's constructor, as is usual for modules."""

    def __init__(self, width: int = 3, weights: str | None = None, **options) -> None:
        super().__init__(**options)
        self.width, self.weights = width, weights

    def build_network(self, weights=None):
        return nn.Sequential(nn.Linear(2, self.width), nn.Tanh(), nn.Linear(self.width, 1))

    def predict(self, network, batch):
        return network(batch[0])[:, 0]

    def task_loss(self, output, batch):
        return (output - batch[1]).square().mean()

    def make_metrics(self, **options):
        return R2Score(**options)


class Wider(Regression):
    """A subclass of one's own task, whose field the network depends on as well."""

    def __init__(self, factor: int = 2, **options) -> None:
        super().__init__(**options)
        self.factor = factor

    def build_network(self, weights=None):
        return nn.Linear(2, self.factor * self.width)


def loader(n: int = 64) -> DataLoader:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1)), batch_size=24)


def test_the_network_is_there_when_the_constructor_is_done():
    assert Regression(width=5).network[0].out_features == 5
    assert Wider(factor=4, width=2).network.out_features == 8
    converted = Regression(hardware=HardwareOptions({"name": "reram_cmo"}))
    assert set(analog_layers(converted.network)) == {"0", "2"} and converted.conversion.n_weights == 9


def test_it_is_built_once():
    class Counting(Regression):
        built = 0

        def build_network(self, weights=None):
            Counting.built += 1
            return super().build_network(weights)

    task = Counting()
    weight = task.network[0].weight
    for other in (copy.deepcopy(task), Regression.__new__(Regression)):  # neither is a construction
        assert Counting.built == 1 and other is not task
    assert task.network[0].weight is weight


def test_what_it_need_not_say():
    task = Regression()
    assert task.network_name == "Regression" and not task.is_pretrained and task.chance_percent == {}
    assert task.inputs is None and task.answered is None and task.label_bytes == 2
    assert Regression(weights="there").is_pretrained
    x = torch.randn(3, 2)
    assert torch.equal(task(x), task.network(x))


def test_an_incomplete_one_is_told_what_is_missing():
    class Incomplete(HardwareAwareTask):
        def build_network(self, weights=None):
            return nn.Linear(1, 1)

    with pytest.raises(TypeError, match=r"make_metrics.*predict.*task_loss"):
        Incomplete()


def test_it_trains_and_what_is_logged_is_what_is_scored():
    task = Regression(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", max_epochs=10, logger=False, **quiet)
    trainer.fit(task, loader(), loader(50))
    logged = float(trainer.callback_metrics["val/R2Score"])
    assert logged > 50
    (found,) = trainer.validate(task, loader(50), verbose=False)
    scores = task.score(task.network.eval(), loader(50))  # batches of unequal size
    assert set(scores) == {"R2Score"}
    assert scores["R2Score"] == pytest.approx(found["val/R2Score"], abs=1e-3) == pytest.approx(logged, abs=1e-3)
    losses = [task.task_loss(task.predict(task.network, batch), batch).item() * len(batch[1]) for batch in loader(50)]
    assert found["val/loss"] == pytest.approx(sum(losses) / 50)
    (tested,) = trainer.test(task, loader(50), verbose=False)
    assert tested["test/R2Score"] == found["val/R2Score"]  # emptied in between


def test_it_can_be_sent_to_another_process():
    task = Regression(width=4)
    again = pickle.loads(pickle.dumps(task))
    assert torch.equal(again.network[0].weight, task.network[0].weight)
