"""What is not there: the nearest name beside it is offered, for every option that takes a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwaware.cli.main import main
from hwaware.data.squad_files import find_files
from hwaware.errors import UserError, nearest_path
from tests.command_line import FINETUNE, PRETRAIN, pretrained_weights

DATA = ["--data.source", "null", "--data.path"]
HARDWARE = "--model.hardware"
READER = ["drift", "--model", "QuestionAnswering", "--data", "SquadData"]

#: Of each option the words before its value, and the name that is there.
OPTIONS = {
    "weights": (["drift", "--config", FINETUNE, "--weights"], "mine.safetensors"),
    "folder of weights": (["drift", "--config", FINETUNE, "--weights"], "run_1/model.safetensors"),
    "ckpt_path": (["fit", "--config", PRETRAIN, "--ckpt_path"], "last.ckpt"),
    "ckpt_path of drift": (["drift", "--config", FINETUNE, "--ckpt_path"], "last.ckpt"),
    "model.weights": (["fit", "--config", PRETRAIN, "--model.weights"], "theirs.pth"),
    "data.path": (["fit", "--config", PRETRAIN, *DATA], "pictures"),
    "reader": ([*READER, "--model.checkpoint"], "reader"),
    "resume": (["drift", "--config", FINETUNE, "--weights", "{weights}", "--evaluation.resume"], "rows.csv"),
    "device": (["drift", "--config", FINETUNE, f"{HARDWARE}.device.name"], "mine.yaml"),
    "plan": (["drift", "--config", FINETUNE, f"{HARDWARE}.plan"], "placement.yaml"),
    "ranking": (
        ["drift", "--config", FINETUNE, f"{HARDWARE}.keep_digital.layers=1", f"{HARDWARE}.keep_digital.ranking"],
        "sensitivity.csv",
    ),
    "sensitivity": (["plan", "--config", FINETUNE, "--cells", "1.2", "--sensitivity"], "sensitivity.csv"),
    "constants": (["arrays", "--config", FINETUNE, "--constants"], "chip.yaml"),
    "readings": (["device", "fit", "--out", "own.yaml"], "lab_2025.csv"),
    "recipe": (["fit", "--config"], "recipe.yaml"),
    "sweep": (["sweep"], "grid.yaml"),
    "study": (["study"], "first/study.yaml"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_the_nearest_name_is_offered(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words, name = OPTIONS[option]
    there = Path(name)
    there.parent.mkdir(exist_ok=True)
    there.mkdir() if "." not in name else there.write_text("")
    first, *rest = there.parts
    mistaken = Path(first.replace(Path(first).stem, Path(first).stem + "s"), *rest)
    typed = mistaken.parent if option == "study" else mistaken
    assert main([word.format(weights=pretrained_weights()) for word in [*words, str(typed)]]) == 2
    error = capsys.readouterr().err
    assert str(typed) in error and f"Did you mean '{there.parent if option == 'study' else there}'?" in error
    assert len(error.strip().splitlines()) <= 2 and sorted(Path().rglob("*")) == sorted(
        {there, *there.parents} - {Path()}
    )


def test_folders_of_questions(tmp_path):
    (tmp_path / "squad").mkdir()
    with pytest.raises(UserError, match=r"no folder '.*/squads' with questions .* Did you mean '.*/squad'\?"):
        find_files(tmp_path / "squads")


def test_what_is_offered(tmp_path):
    (tmp_path / "runs" / "version_0").mkdir(parents=True)
    (tmp_path / "runs" / "version_0" / "model.safetensors").touch()
    whole = tmp_path / "runs" / "version_0" / "model.safetensors"
    assert nearest_path(tmp_path / "run" / "version_0" / "model.safetensors") == f"Did you mean '{whole}'?"
    assert nearest_path(tmp_path / "run" / "version_0" / "other.pt") == f"Did you mean '{tmp_path / 'runs'}'?"
    assert nearest_path(tmp_path / "zzz" / "a.csv") == f"There is no '{tmp_path / 'zzz'}'."
    assert nearest_path(tmp_path / "zzz") == f"'{tmp_path}' has: runs."
