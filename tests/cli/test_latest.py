"""--ckpt_path last: whose checkpoint it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from hwaware.cli.main import main
from tests.command_line import FINETUNE

DEVICE = "law: relative\ng_min_us: 2\ng_max_us: 50\nrelative_drift: 0.2\n"
COMMON = ("fit", "--config", FINETUNE, "--model.weights", "null", "--ckpt_path", "last")


@pytest.fixture
def runs(tmp_path, monkeypatch, capsys):
    """Makes a run's folder, as ``fit`` leaves it, of a command with options; newer than those before."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(DEVICE)
    made = []

    def make(*options: str) -> Path:
        folder = tmp_path / "runs" / "finetune" / f"version_{len(made)}"
        assert main([*COMMON[:-2], *options, "--print_config"]) == 0
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text(capsys.readouterr().out)
        file = folder / "checkpoints" / "last.ckpt"
        file.touch()
        os.utime(file, (len(made), len(made)))
        made.append(file)
        return file

    return make


def chosen(capsys, *options: str) -> str:
    """What the command says: the file that ``last`` is found to be holds nothing."""
    capsys.readouterr()
    assert main([*COMMON, *options]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed_everything", "1"], "seed_everything: 0 in that run, 1 now"),
        (["--data.batch_size", "64"], "data.batch_size: 32 in that run, 64 now"),
        (["--model.retention.share", "0.1"], "model.retention.share: 0.05 in that run, 0.1 now"),
        (["--model.hardware.encoding.kappa", "1"], "model.hardware.encoding.kappa:"),
        (["--trainer.accumulate_grad_batches", "2"], "trainer.accumulate_grad_batches: 1 in that run, 2 now"),
    ],
)
def test_of_another_run_it_is_refused_and_told_what_differs(runs, capsys, options, told):
    file = runs()
    error = chosen(capsys, *options)
    assert f"'{file.relative_to(Path.cwd())}' belongs to a run with other settings.\n{told}" in error
    assert error.rstrip().endswith("Give it as --ckpt_path to resume from it anyway.")


def test_what_makes_no_difference_to_the_steps_may_change(runs, capsys):
    file = runs()
    options = ("--trainer.max_epochs", "9", "--evaluation.n_chips", "3", "--data.num_workers", "1")
    assert f"{file.relative_to(Path.cwd())} is cut short" in chosen(capsys, *options)


def test_of_runs_with_several_seeds_it_is_the_one_with_the_same(runs, capsys):
    files = [runs("--seed_everything", str(seed)) for seed in (0, 1, 2)]
    for seed, file in enumerate(files):
        assert f"{file.relative_to(Path.cwd())} is cut short" in chosen(capsys, "--seed_everything", str(seed))


def test_a_copy_of_a_device_file_is_the_same_and_a_changed_file_is_not(runs, capsys):
    named = ("--model.hardware.device.name", "mine.yaml")
    folder = runs(*named).parent.parent
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "mine.yaml").write_text(DEVICE)
    config["model"]["init_args"]["hardware"]["device"]["name"] = str(folder / "mine.yaml")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert f"{(folder / 'checkpoints' / 'last.ckpt').relative_to(Path.cwd())} is cut short" in chosen(capsys, *named)
    Path("mine.yaml").write_text(DEVICE.replace("50", "40"))
    assert "model.hardware.device.name:" in chosen(capsys, *named)
