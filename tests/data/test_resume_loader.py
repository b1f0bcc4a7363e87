"""Order and augmentation are fixed by (seed, epoch, index); a resumed run and a rank see exactly their part."""

import random
import warnings

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from hwaware.data import ImageData, ImageInputs
from hwaware.data.contract import TakesSamples
from hwaware.data.loading import EverySampleSampler, ResumableSampler, sample_key, seeded

CONFIG = dict(
    input_size=(3, 8, 8),
    interpolation="bicubic",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    crop_pct=1.0,
    crop_mode="center",
)
BATCHES, EPOCHS = 5, 3  # 160 training images in batches of 32


class Task(LightningModule, TakesSamples):
    """The smallest network with state beside its weights, which remembers what it was given."""

    inputs = ImageInputs(CONFIG, 10)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        self.seen: list[tuple[int, float]] = []
        self.counts = {"val": 0, "test": 0}
        self.die_at: int | None = None

    def training_step(self, batch, batch_idx):
        x, y = batch
        if self.global_step == self.die_at:
            raise KeyboardInterrupt  # what a step that never ends looks like
        self.seen.append((batch_idx, float(x.double().sum())))
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, batch_idx):
        self.counts["val"] += len(self.net(batch[0]))

    def test_step(self, batch, batch_idx):
        self.counts["test"] += len(batch[0])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9), "interval": "step"},
        }


def data(num_workers=0, **kwargs):
    options = dict(batch_size=32, augment="crop", train_rows=[0, 165], val_rows=[165, 232], seed=3)
    return ImageData(num_workers=num_workers, **(options | kwargs))


def trainer(folder, callbacks=(), **kwargs):
    options = dict(max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False)
    options |= dict(enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder)
    return Trainer(**(options | kwargs), callbacks=list(callbacks))


def every_step(folder):
    return ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)


def fit(folder, num_workers=0, ckpt_path=None, callbacks=(), **kwargs):
    task = Task()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*your dataloader is not resumable")
        trainer(folder, callbacks or [ModelCheckpoint(folder, save_top_k=0)], **kwargs).fit(
            task, data(num_workers), ckpt_path=ckpt_path
        )
    return task


def assert_same(a, b):
    for key, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[key]), key


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, fit(folder, callbacks=[every_step(folder)])


def test_workers_change_nothing(uninterrupted, tmp_path):
    _, task = uninterrupted
    other = fit(tmp_path, num_workers=2)
    assert len(task.seen) == BATCHES * EPOCHS and other.seen == task.seen
    assert_same(other, task)


@pytest.mark.parametrize("num_workers", [0, 2])
# the first step, mid-epoch, the last of an epoch, the first of one, mid-epoch, one before the end
@pytest.mark.parametrize("step", [1, 3, 5, 6, 8, 14])
def test_resumed_run_equals_uninterrupted(uninterrupted, tmp_path, step, num_workers):
    folder, task = uninterrupted
    resumed = fit(tmp_path, num_workers, ckpt_path=folder / f"step={step}.ckpt")
    assert resumed.seen == task.seen[step:]
    assert_same(resumed, task)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_with_validation_inside_epochs_and_a_limit_of_steps(tmp_path, num_workers):
    options = dict(max_epochs=-1, max_steps=12, val_check_interval=2)
    whole = fit(tmp_path, callbacks=[every_step(tmp_path)], **options)
    for step in (4, 5, 7, 10):
        resumed = fit(tmp_path / "r", num_workers, ckpt_path=tmp_path / f"step={step}.ckpt", **options)
        assert resumed.seen == whole.seen[step:]
        assert_same(resumed, whole)


def test_checkpoint_written_while_a_batch_was_under_way(uninterrupted, tmp_path):
    """The batch that was drawn but not trained on comes again."""
    _, whole = uninterrupted

    class SaveOnInterrupt(Callback):
        def on_exception(self, trainer, pl_module, exception):
            trainer.save_checkpoint(tmp_path / "interrupted.ckpt")

    task = Task()
    task.die_at = 7
    with pytest.raises(BaseException):  # noqa: B017  Lightning turns KeyboardInterrupt into SystemExit
        trainer(tmp_path, [SaveOnInterrupt()]).fit(task, data())
    resumed = fit(tmp_path, ckpt_path=tmp_path / "interrupted.ckpt")
    assert task.seen + resumed.seen == whole.seen
    assert_same(resumed, whole)


def test_checkpoint_at_the_end_of_an_epoch(uninterrupted, tmp_path):
    _, whole = uninterrupted
    fit(tmp_path, callbacks=[ModelCheckpoint(tmp_path, "end-{epoch}", save_top_k=-1)], max_epochs=2)
    for num_workers in (0, 2):
        resumed = fit(tmp_path, num_workers, ckpt_path=tmp_path / "end-epoch=1.ckpt")
        assert resumed.seen == whole.seen[2 * BATCHES :]
        assert_same(resumed, whole)


class WriteCounts(Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        counts = dict(pl_module.counts, n_test=trainer.datamodule.n_test)
        indices = [i for i, _ in trainer.train_dataloader.sampler]
        torch.save((pl_module.seen, counts, indices), self.folder / f"rank{trainer.global_rank}.pt")

    def on_test_end(self, trainer, pl_module):
        torch.save(pl_module.counts["test"], self.folder / f"test{trainer.global_rank}.pt")


@pytest.mark.filterwarnings("ignore")
def test_two_processes(tmp_path):
    """Ranks train on disjoint images, validate each image once (the 67 are not 68), and test on all."""
    # Where an earlier test has used a GPU, a process that is forked cannot: Lightning asks for its generators.
    strategy = "ddp_spawn" if torch.cuda.is_initialized() else "ddp_fork"
    run = trainer(tmp_path, [WriteCounts(tmp_path)], devices=2, strategy=strategy, max_epochs=2)
    task, images = Task(), data(batch_size=16, eval_batch_size=11)
    run.fit(task, images)
    seen, counts, indices = zip(*(torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)), strict=True)
    assert [len(s) for s in seen] == [2 * BATCHES] * 2
    assert not set(indices[0]) & set(indices[1])
    assert len(indices[0]) + len(indices[1]) == 164
    # two epochs; 34 images in 4 batches on one rank, 33 in 3 on the other
    assert [c["val"] for c in counts] == [2 * 34, 2 * 33]

    run.test(task, images, verbose=False)
    assert [torch.load(tmp_path / f"test{rank}.pt") for rank in (0, 1)] == [359, 359]


def test_sampler_is_a_shuffled_partition():
    samples = list(range(23))
    ranks = [ResumableSampler(samples, batch_size=4, seed=1, num_replicas=2, rank=rank) for rank in (0, 1)]
    epochs = []
    for epoch in range(2):
        for sampler in ranks:
            sampler.set_epoch(epoch)
        drawn = [list(sampler) for sampler in ranks]
        assert [len(d) for d in drawn] == [11, 11]
        indices = [index for d in drawn for index, _ in d]
        assert len(set(indices)) == 22 and indices != sorted(indices)
        assert all(key == sample_key(1, epoch, index) for d in drawn for index, key in d)
        epochs.append(drawn)
    assert epochs[0] != epochs[1]
    ranks[0].start_batch = 2
    assert list(ranks[0]) == epochs[1][0][8:] and len(ranks[0]) == 11


def test_seeds_do_not_share_epochs():
    a, b = (ResumableSampler(list(range(50)), 4, seed) for seed in (0, 1))
    a.set_epoch(1)
    assert [i for i, _ in a] != [i for i, _ in b]


@pytest.mark.parametrize("n", [5, 6, 1])
def test_every_sample_once(n):
    samplers = [EverySampleSampler(list(range(n)), 3, rank) for rank in range(3)]
    assert sorted(i for s in samplers for i in s) == list(range(n))
    assert [len(list(s)) for s in samplers] == [len(s) for s in samplers]


def test_seeded_decides_all_draws_and_restores():
    def draws():
        return torch.rand(2).tolist(), random.random()

    with seeded(7):
        first = draws()
    before = torch.get_rng_state(), random.getstate()
    with pytest.raises(RuntimeError), seeded(7):
        assert draws() == first
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    with seeded(8):
        assert draws() != first


def test_numpy_is_seeded_where_it_is_asked_for():
    np.random.seed(0)
    before = np.random.get_state()
    found = []
    for key in (7, 7, 8):
        with seeded(key, numpy=True):
            found.append(np.random.rand())
    assert found[0] == found[1] != found[2]
    assert all(np.array_equal(one, other) for one, other in zip(np.random.get_state(), before, strict=True))


def test_loaders_leave_the_global_generator_alone():
    images = data()
    images.inputs = ImageInputs(CONFIG)
    images.setup()
    before = torch.get_rng_state()
    for loader in (images.train_dataloader(), images.val_dataloader(), images.test_dataloader()):
        for _ in loader:
            pass
    assert torch.equal(torch.get_rng_state(), before)
