"""A word about images that are normalised otherwise than the network's weights were trained on."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import tests.tiny  # noqa: F401 - registers the tiny network
from hwaware.data import ImageData
from hwaware.tasks.normalisation import better_normalised
from tests.command_line import FINETUNE, pretrained_weights, run
from tests.tasks.test_task import CMO, make

FAR = {"mean": 0.0, "std": 1.0}  # bare pixels, which the tiny network was not trained on


def said(task, **options) -> list[str]:
    data = ImageData("digits", **options)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_steps=1
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(task, datamodule=data)
    return [str(one.message) for one in caught if "normalised" in str(one.message)]


@pytest.mark.parametrize("hardware", [None, CMO], ids=["digital", "cells"])
def test_a_word_where_weights_were_trained_with_the_other(hardware):
    """The tiny network was trained with mean = std = 0.5."""
    assert said(make(hardware=hardware)) == []
    (word,) = said(make(hardware=hardware), **FAR)
    assert "with data.mean 0.5 and data.std 0.5: were its weights trained with these?" in word
    assert "of 128 images as they are normalised" in word


def test_networks_that_know_nothing_are_not_judged():
    assert said(make(weights=None), **FAR) == []


def of(own: list[int], other: list[int]) -> Any:
    """A network that is right on so many images of each batch as they are, and on so many that are normalised anew."""
    given = torch.full((50, 3, 2, 2), 0.1)

    def predict(batch):
        n = own if batch[0].equal(given) else other
        right = torch.zeros(50, dtype=torch.bool)
        right[n[0] : n[1]] = True
        return torch.nn.functional.one_hot(torch.where(right, batch[1], 1 - batch[1]), 2).float()

    batches = [(given, torch.zeros(50, dtype=torch.long))] * 2
    return better_normalised(predict, batches, {"mean": (0.5,) * 3, "std": (0.5,) * 3})


def test_only_what_is_far_better_is_worth_a_word():
    assert "right on 60 % of 100 images" in of([0, 30], [0, 40]) and "on 80 % with data.mean [0.485, " in of(
        [0, 30], [0, 40]
    )
    assert of([0, 40], [0, 30]) is None
    assert of([0, 40], [0, 42]) is None  # four of a hundred
    assert of([0, 25], [20, 50]) is None  # 10 points, of 90 images that changed


def test_evaluation_says_both(tmp_path, caplog):
    """A command that only evaluates: the word, and the line about the data."""
    options = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path]
    small = ["--evaluation.n_chips", 1, "--evaluation.ages_s", "[0]", "--evaluation.networks", "[base]"]
    far = ["--data.mean", FAR["mean"], "--data.std", FAR["std"]]
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    with pytest.warns(UserWarning, match=r"with data\.mean 0\.5 and data\.std 0\.5"):
        run("drift", *options, *small, *far)
    assert "data: 359 test images of digits (from scikit-learn), 10 classes, seen at 8 × 8" in caplog.text
