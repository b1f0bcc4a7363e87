"""The commands as a user types them."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from hwaware import commands
from hwaware.cli.main import main
from hwaware.commands import COMMANDS
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, PRETRAIN, ROOT, pretrained_weights, run


def test_help_lists_the_commands_without_importing_torch():
    code = (
        "import sys; from hwaware.cli.main import main; status = main(['--help']);"
        "heavy = {'torch', 'lightning', 'timm', 'jsonargparse', 'numpy'} & set(sys.modules);"
        "assert status == 0 and not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    ("words", "most_s"), [(["-c", "import hwaware"], 0.5), (["-m", "hwaware", "--help"], 0.3)], ids=["import", "help"]
)
def test_a_start_takes_no_time(words, most_s):
    """Of the processor, which other processes share; with half a second for Python itself, and its site packages."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < most_s + 0.5


def test_the_package_is_imported_without_torch():
    code = "import sys, hwaware; hwaware.UserError; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_no_command_shows_help_and_fails(capsys):
    assert main([]) == 2
    assert "usage: hwaware" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: hwaware {command} ")
    no_chips = {"device", "sweep", "study", "push", "onnx", "recipes", "quickstart"}
    assert ("--evaluation.n_chips" in shown) == (command not in no_chips)
    assert ("--model" in shown) == COMMANDS[command].on_recipe


def test_every_command_has_its_own_module_and_is_listed():
    """Help and what can be run come from one list; beside the commands stand modules without a ``run``."""
    found = {path.stem for path in Path(commands.__file__).parent.glob("*.py")} - {"__init__"}
    assert COMMANDS.keys() <= found
    assert {name for name in found if hasattr(import_module(f"hwaware.commands.{name}"), "run")} == COMMANDS.keys()


def test_print_config_is_complete_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("fit", "--config", FINETUNE, "--model.hardware.encoding.mapping", "offset", "--print_config")
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["hardware"]["encoding"]["mapping"] == "offset"
    assert config["checkpoint"]["save_last"] is True and config["checkpoint"]["every_n_train_steps"] == 3
    assert config["evaluation"]["split"] == "test"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_pretrain_finetune_drift(tmp_path, monkeypatch, capsys):
    """The whole way with default folders; run folders are named after the recipe and counted."""
    monkeypatch.chdir(tmp_path)
    run("fit", "--config", PRETRAIN)
    weights = "runs/pretrain/version_0/model.safetensors"
    run("fit", "--config", FINETUNE, "--model.weights", weights)
    out = capsys.readouterr().out
    assert "base digital" in out and "runs/finetune/version_0/rows.csv" in out
    run("drift", "--config", FINETUNE, "--model.weights", weights, "--ckpt_path", "last", "--recipe", "finetune")
    # The checkpoint of step 18 of 20: another network than the finished one, on the same chips.
    rows = read_rows("runs/finetune/version_1/rows.csv")
    assert {row.network for row in rows} == {"base", "finetuned"}


@pytest.mark.slow
def test_checkpoints_settings_do_not_override_the_command_line(tmp_path):
    """Lightning's own behaviour: hyper-parameters stored in --ckpt_path silently win."""
    common = ("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--evaluation.networks", "[]")
    common += ("--trainer.default_root_dir", tmp_path)
    run(*common, "--trainer.max_epochs", 1, "--model.label_smoothing", 0.3)
    (file,) = tmp_path.rglob("last.ckpt")
    checkpoint = torch.load(file, weights_only=True)
    torch.save({**checkpoint, "hyper_parameters": {"label_smoothing": 0.3}}, file)  # as a task that saves them would
    run(*common, "--trainer.max_epochs", 2, "--model.label_smoothing", 0.1, "--ckpt_path", file)
    config = yaml.safe_load((tmp_path / "finetune" / "version_1" / "config.yaml").read_text())
    assert config["model"]["init_args"]["label_smoothing"] == 0.1


def test_console_script_names_an_existing_function():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'hwaware = "hwaware.cli.main:main"' in text


def test_an_interrupt_is_told_in_a_line(monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("hwaware.cli.main._run", interrupted)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "hwaware: interrupted.\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a bug\nof ours"), "a bug of ours (ValueError; --debug shows where)."),
        (AssertionError(), "no reason given (AssertionError; --debug shows where)."),
        (OSError(28, "No space left on device", "/full/rows.csv"), "No space left on device: '/full/rows.csv'."),
        (MemoryError(), "out of memory."),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("debug", [False, True])
def test_what_goes_wrong_is_told_in_a_line_and_shown_where_asked_for(error, said, debug, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr("hwaware.tasks.image_classification.build_model", broken)
    assert main(["fit", "--config", PRETRAIN, *(["--debug"] if debug else [])]) == 1
    *shown, last = capsys.readouterr().err.splitlines()
    assert last == f"hwaware: {said}" and any("in broken" in line for line in shown) == debug


@pytest.mark.slow
def test_the_runs_seed_reaches_the_data(tmp_path):
    """Without noise, order and augmentation are all that a seed changes in a finetune."""
    common = ("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--evaluation.networks", "[]")
    common += ("--model.noise", "null", "--model.retention", "null", "--trainer.max_steps", 2)
    weights = []
    for number, seed in enumerate((3, 3, 4)):
        run(*common, "--seed_everything", seed, "--trainer.default_root_dir", tmp_path)
        weights.append(load_file(tmp_path / "finetune" / f"version_{number}" / "model.safetensors"))
    first, again, other = weights
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("command", "own"), [("fit", "--ckpt_path"), ("plan", "--cells")])
def test_help_has_what_is_ours_first(command, own, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(f"\n  {one}") for one in (own, "--model.help", "--data.help", "--evaluation", "--trainer")]
    assert places == sorted(places)
    assert "lambda" not in text.lower().replace("lambdacallback", "") and "Linked" not in text
    assert len(text.partition("options:")[0]) < 400
