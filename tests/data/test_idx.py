"""MNIST's files: read, found out, refused where they are damaged; grey images for networks of one channel."""

import gzip

import numpy as np
import pytest
import timm
from timm.data import resolve_model_data_config

import hwaware.models  # noqa: F401 - registers lenet5
from hwaware.data import ImageData, ImageInputs
from hwaware.errors import UserError


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Images whose every pixel is a tenth of the range times the label."""
    for stem, n, suffix in (("train", 40, ".gz"), ("t10k", 20, "")):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.broadcast_to((25 * labels)[:, None, None], (n, 28, 28)).astype(np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(array)
            (tmp_path / f"{stem}-{what}-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    return tmp_path


def opened(folder, **options):
    data = ImageData(path=str(folder), batch_size=4, **options)
    data.inputs = ImageInputs(resolve_model_data_config(timm.create_model("lenet5")))
    return data


@pytest.mark.parametrize("augment", ["none", "crop"])
@pytest.mark.parametrize("source", [None, "idx"])
def test_images_and_labels_belong_together(folder, source, augment):
    data = opened(folder, source=source, augment=augment)
    data.setup()
    assert (data.n_train, data.n_val, data.n_test, data.num_classes) == (36, 4, 20, 10)
    for images, labels in (next(iter(data.test_dataloader())), next(iter(data.train_dataloader()))):
        assert images.shape[1:] == (1, 28, 28)
        centre = images[:, 0, 14, 14] * 0.5 + 0.5  # LeNet's mean and std are 0.5
        assert np.allclose(centre * 255, 25 * labels, atol=0.01)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("t10k-images-idx3-ubyte", lambda data: data[:-1], "images-idx3-ubyte is cut short"),
        ("t10k-labels-idx1-ubyte", lambda data: b"\0\0\x0d" + data[3:], "no IDX file of bytes in 1 dimension"),
        ("t10k-labels-idx1-ubyte", lambda data: idx(np.zeros(19, np.uint8)), "20 images, but .* 19 labels"),
        ("train-images-idx3-ubyte.gz", lambda data: data[:-9], "cut short or damaged"),
    ],
)
def test_damaged_files_are_named(folder, file, change, reason):
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    with pytest.raises(UserError, match=reason):
        opened(folder).setup()
