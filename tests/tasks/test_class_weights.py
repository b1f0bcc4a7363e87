"""Weights of classes in the training loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.tasks import ImageClassification
from hwaware.training import Distillation, weights_of_classes
from tests.command_line import FINETUNE, NO_DEVICE, pretrained_weights, run
from tests.data.test_described import flat_folder
from tests.data.test_images import NAMES

PATH = ["--config", FINETUNE, *NO_DEVICE, "--model.num_classes", "3", "--data.source", "folder"]
PATH += ["--data.train_rows", "null", "--data.val_rows", "null", "--data.batch_size", "4", "--trainer.max_steps", "2"]


def _task(**options):
    return ImageClassification("tiny_test_net", num_classes=3, **options)


def test_balanced_is_scikit_learn_s():
    counts = [60, 20, 10]
    labels = np.repeat(range(3), counts)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert weights_of_classes("balanced", NAMES, counts).tolist() == pytest.approx(theirs.tolist())
    assert weights_of_classes("balanced", NAMES, [30, 0, 10]).tolist() == pytest.approx([2 / 3, 1, 2])


def test_the_training_loss_has_them_and_validation_has_not():
    task = _task(class_weights={"cat": 5.0, "ant": 0.0})
    task.inputs.class_names[:] = NAMES  # as data do that are set up
    assert NAMES == ["ant", "bee", "cat"]
    output, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])
    each = F.cross_entropy(output, labels, reduction="none")
    weight = torch.tensor([0.0, 1.0, 5.0])[labels]
    torch.testing.assert_close(task.task_loss(output, (None, labels)), (each * weight).sum() / weight.sum())
    torch.testing.assert_close(task.evaluation_loss(output, (None, labels)), each.mean())


def test_a_recipe_counts_what_it_trains_on(tmp_path, monkeypatch):
    seen = []
    loss = ImageClassification.task_loss
    monkeypatch.setattr(
        ImageClassification, "task_loss", lambda self, *one: seen.append(self._weights.tolist()) or loss(self, *one)
    )
    folder = flat_folder(tmp_path / "data", (40, 20, 10))
    run(
        "fit", *PATH, "--data.path", folder, "--model.class_weights", "balanced", "--trainer.default_root_dir", tmp_path
    )
    shares = np.array([29, 15, 7])  # of 40, 20, 10, without those of validation and test
    assert seen[0] == pytest.approx((shares.sum() / (3 * shares)).tolist(), rel=0.02)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model.class_weights", "{cats: 2}"], "class_weights: the data have no class 'cats'. Did you mean 'cat'?"),
        (["--model.class_weights", "{cat: -2}"], "class_weights cat=-2.0 must be 0 or more"),
        (["--model.class_weights", "balance"], "class_weights"),
        (
            ["--model.class_weights", "balanced", "--data.balanced", "true"],
            "data.balanced and model.class_weights 'balanced' each make up for classes of unequal size",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_and_nothing_written(tmp_path, capsys, options, reason):
    folder = flat_folder(tmp_path / "data", (40, 20, 10))
    command = [*PATH, "--data.path", str(folder), "--trainer.default_root_dir", str(tmp_path / "runs"), *options]
    assert main(["fit", *command]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_names_that_are_numbers():
    assert _task(class_weights={0: 2, "1": 3}).inputs.weighed == ("0", "1")


def test_readers_have_none(capsys):
    options = ["--model", "QuestionAnswering", "--model.class_weights", "balanced", "--data", "SquadData"]
    assert main(["fit", *options]) == 2
    assert "class_weights" in capsys.readouterr().err


def test_nobody_said_how_many():
    task = _task(class_weights="balanced")
    with pytest.raises(UserError, match="do not say how many training images each class has"):
        task.task_loss(torch.randn(2, 3), (None, torch.tensor([0, 1])))
    with pytest.raises(UserError, match=r"distillation\.weight=1 leaves out"):
        _task(class_weights="balanced", weights=str(pretrained_weights()), distillation=Distillation(weight=1.0))
