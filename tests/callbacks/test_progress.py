"""What the line of the training's progress says."""

from __future__ import annotations

import pytest
from lightning.pytorch import Trainer

from hwaware.callbacks import EpochsOrSteps
from tests.command_line import PRETRAIN, run


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"max_epochs": 3}, "Epoch 1/2"), ({"max_steps": 9}, "Epoch 1"), ({"max_epochs": -1}, "Epoch 1")],
)
def test_there_is_no_epoch_below_0(limits, said):
    bar = EpochsOrSteps()
    trainer = Trainer(callbacks=[bar], logger=False, enable_checkpointing=False, accelerator="cpu", **limits)
    assert trainer.progress_bar_callback is bar
    bar._trainer = trainer
    assert bar._get_train_description(1).strip() == said


def test_commands_have_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(EpochsOrSteps, "on_exception", lambda self, *_: None)
    monkeypatch.setattr(EpochsOrSteps, "on_fit_start", lambda self, *_: found.append(self), raising=False)
    run("fit", "--config", PRETRAIN, "--trainer.enable_progress_bar", "true", "--trainer.fast_dev_run", "1")
    assert len(found) == 1
