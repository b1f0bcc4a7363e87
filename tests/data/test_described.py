"""What is said of the data at the start, folders without splits, and classes that training lacks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from hwaware.errors import UserError
from tests.data.test_images import NAMES, encoded, image_folder, labels, pixels, ready, said, write_parquet


def flat_folder(folder, counts=(20, 10, 5)):
    for name, n in zip(NAMES, counts, strict=True):
        (folder / name).mkdir(parents=True)
        for i, array in enumerate(pixels(n, seed=n)):
            Image.fromarray(array).save(folder / name / f"{i:02d}.png")
    return folder


def test_a_line_says_what_there_is(tmp_path):
    data = ready(path=str(image_folder(tmp_path / "insects", ("train", "val", "test"))))
    assert data.described == (
        f"data: 12 training, 12 validation, 12 test images of insects ({tmp_path}/insects), 3 classes, seen at 8 × 8"
    )
    assert ready("test").described == "data: 359 test images of digits (from scikit-learn), 10 classes, seen at 8 × 8"


def test_a_folder_of_classes_alone_is_split_always_alike(tmp_path):
    folder = flat_folder(tmp_path / "insects")
    data = ready(path=str(folder))
    assert data.class_names == tuple(NAMES)
    tested = np.bincount(labels(data.test_dataloader()))
    assert tested.tolist() == [4, 2, 1]  # a fifth of each class
    shares = [{one.where(i) for i in range(len(one))} for one in (data._split(s) for s in ("train", "val", "test"))]
    assert len(set.union(*shares)) == sum(map(len, shares)) == 35
    assert "a fixed fifth of each class for testing" in data.described
    again = ready("test", path=str(folder))._split("test")
    assert {again.where(i) for i in range(len(again))} == shares[2]


def test_a_class_that_is_called_train(tmp_path):
    folder = flat_folder(tmp_path)
    (folder / "cat").rename(folder / "train")
    assert ready(path=str(folder)).class_names == ("ant", "bee", "train")


def test_folders_of_folders_are_no_classes(tmp_path):
    folder = image_folder(tmp_path, ("training", "testing"))
    said(re.escape("wanted train.parquet"), path=str(folder))


def test_too_few_to_split(tmp_path):
    folder = flat_folder(tmp_path, (5, 2, 5))
    said(r"bee has 2 images, too few to split for training, validation and test: add some, or", path=str(folder))


def test_a_number_that_training_lacks(tmp_path):
    """Labels without names: training says which there are; a test set may lack some, but not have others."""
    images = [encoded(a) for a in pixels(12)]
    write_parquet(tmp_path / "train.parquet", images, [0, 1, 2] * 4, names=None)
    write_parquet(tmp_path / "test.parquet", images, [0, 1] * 6, names=None)
    assert ready(path=str(tmp_path)).num_classes == 3
    write_parquet(tmp_path / "test.parquet", images, [0, 1, 2, 3] * 3, names=None)
    with pytest.raises(UserError, match="no training images of class 3, which test images have: training has 0 … 2"):
        ready(path=str(tmp_path))


def test_a_named_class_without_a_training_image(tmp_path):
    images = [encoded(a) for a in pixels(12)]
    write_parquet(tmp_path / "train.parquet", images, [0, 1] * 6)
    write_parquet(tmp_path / "test.parquet", images, [0, 1, 2] * 4)
    with pytest.warns(UserWarning, match="no training image is of cat: the network can't learn such classes"):
        ready(path=str(tmp_path))
