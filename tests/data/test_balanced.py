"""Training on as many images of each class, and scores by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, recall_score

from hwaware.data import ImageData, ImageInputs
from hwaware.data.loading import BalancedSampler
from hwaware.metrics.by_class import accuracy_by_class
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, pretrained_weights, run
from tests.data.test_described import flat_folder
from tests.data.test_images import CONFIG, NAMES


class Labelled:
    labels = np.repeat([0, 1, 2], [60, 20, 10])

    def __len__(self):
        return len(self.labels)


def drawn(epoch: int = 0, start: int = 0, **ranks: int) -> list[tuple[int, int]]:
    sampler = BalancedSampler(Labelled(), batch_size=5, seed=3, **ranks)
    sampler.set_epoch(epoch)
    sampler.start_batch = start
    return list(sampler)


def test_each_class_as_often_and_all_of_it_before_any_again():
    found = drawn()
    indices = np.array([index for index, _ in found])
    assert np.bincount(Labelled.labels[indices]).tolist() == [30, 30, 30]
    times = np.bincount(indices, minlength=90)
    assert set(times[:60]) == {0, 1} and set(times[60:80]) == {1, 2} and set(times[80:]) == {3}
    assert len({key for _, key in found}) == 90  # each time another augmentation
    assert found == drawn() != drawn(1)


def test_a_resumed_epoch_goes_on_and_ranks_share_it():
    assert drawn(start=4) == drawn()[20:]
    ranks = [drawn(num_replicas=2, rank=rank) for rank in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == sorted(drawn())


def test_the_recipe_asks_for_it_and_unequal_classes_are_said(tmp_path):
    data = ImageData(path=str(flat_folder(tmp_path / "f", (40, 20, 10))), batch_size=8, balanced=True)
    data.inputs = ImageInputs(CONFIG)
    data.setup()
    seen = torch.cat([y for _, y in data.train_dataloader()])
    counts = np.bincount(seen)
    assert len(seen) == len(data._datasets["train"]) // 8 * 8 and counts.max() - counts.min() <= 8
    assert data.inputs.class_names == NAMES
    assert (
        "3 classes of 7 … 29 training images (data.balanced or model.class_weights, model.by_class)" in data.described
    )


def test_scores_by_class_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1, 0.0]), 200, True, generator=generator)
    guesses = torch.where(
        torch.rand(200, generator=generator) < 0.6, labels, torch.randint(4, (200,), generator=generator)
    )
    found = accuracy_by_class(guesses == labels, labels, ["a", "b", "c", "d"])
    assert found["balanced"] == pytest.approx(100 * balanced_accuracy_score(labels, guesses), abs=1e-3)
    recalls = recall_score(labels, guesses, labels=[0, 1, 2], average=None)
    assert [found[f"class:{name}"] for name in "abc"] == pytest.approx(list(100 * recalls), abs=1e-3)
    assert "class:d" not in found  # of which there is no sample


def test_rows_and_report_have_each_class(tmp_path, capsys):
    options = ["--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", tmp_path]
    small = ["--evaluation.n_chips", 1, "--evaluation.ages_s", "[0]", "--evaluation.networks", "[base]"]
    run("drift", *options, *small, "--model.by_class", "true")
    (folder,) = tmp_path.glob("*/version_0")
    value = {row.metric: row.value for row in read_rows(folder / "rows.csv")}
    assert list(value) == ["top1", "top5", "balanced", *(f"class:{digit}" for digit in range(10))]
    assert value["balanced"] == pytest.approx(np.mean([value[f"class:{digit}"] for digit in range(10)]), abs=1e-3)
    page = (folder / "report.html").read_text()
    assert page.count("Accuracy by class (%)") == 1 and '<th scope="row">7</th><td>' in page
    assert "Accuracy by class (%)" in " ".join(capsys.readouterr().out.split())
    assert len(list((folder / "plots").glob("accuracy*.png"))) == 3
