"""Decoded batches are kept: in memory, then in files, or not at all where there is no room."""

import shutil
import tempfile
from collections import namedtuple

import pytest
import torch
from torch.utils.data import TensorDataset

from hwaware.data import SampleData
from hwaware.evaluation import batches as module
from hwaware.evaluation.batches import Batches


@pytest.fixture
def counted(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    decoded = []

    class Counted(SampleData):
        dataset_name = "counted"

        def dataset(self, split):
            return TensorDataset(torch.arange(7.0)[:, None], torch.arange(7))

        def collate(self, samples):
            decoded.append(len(samples))
            return super().collate(samples)

    data = Counted(batch_size=8, eval_batch_size=4)
    data.setup("test")
    return Batches(data, "test", torch.device("cpu")), decoded


@pytest.mark.parametrize("limit", [2**30, 100, 0])
def test_decoded_once_in_memory_or_files(limit, counted, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CACHE_BYTES", limit)
    batches, decoded = counted
    first = list(batches)
    assert len(decoded) == len(first) == 2
    for one, again in zip(first, batches, strict=True):
        assert all(map(torch.equal, one, again))
    assert len(decoded) == 2 and not list(tmp_path.iterdir())


def test_a_pass_that_breaks_off_keeps_nothing(counted):
    batches, decoded = counted
    next(iter(batches))
    assert [len(y) for _, y in batches] == [4, 3] == decoded[1:]


def _full(batch):
    raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")


@pytest.mark.parametrize("why", ["little is free", "it fills up"])
def test_decoded_again_where_there_is_no_room(why, counted, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(module, "CACHE_BYTES", 0)
    usage = namedtuple("usage", "total used free")(0, 0, 100)
    if why == "little is free":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    else:
        monkeypatch.setattr(module, "_mapped", _full)
    batches, decoded = counted
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        passes = [torch.cat([y for _, y in batches]).tolist() for _ in range(3)]
    assert passes == [list(range(7))] * 3 and decoded == [4, 3] * 3
    assert caplog.text.count(f"{tmp_path} has no room for the decoded samples") == 1
