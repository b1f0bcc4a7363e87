"""Typing errors are told before anything heavy is imported, in the words of the parser; what is right is left alone."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import fields
from inspect import signature

import pytest
import yaml
from lightning.pytorch import Trainer

from hwaware.callbacks import DriftEvaluation, StepCheckpoint
from hwaware.cli.main import main
from hwaware.cli.normalise import normalise_options
from hwaware.cli.precheck import precheck
from hwaware.cli.source import find_class, strings_given_to
from hwaware.compensation import Compensation
from hwaware.errors import UserError
from hwaware.hardware import EncodingOptions
from hwaware.hardware.encoding import MAPPINGS
from hwaware.results.repairs import REPAIRS
from hwaware.tasks import HardwareAwareTask, ImageClassification
from tests.command_line import FINETUNE, ROOT

CASES = {
    "key": (["--trainer.max_epoch", "3"], "trainer.max_epoch is not a key. Did you mean 'trainer.max_epochs'?"),
    "section": (["--trianer.max_epochs", "3"], "trianer is not a key. Did you mean 'trainer'?"),
    "number": (["--trainer.max_epochs", "many"], "trainer.max_epochs: 'many' is not a whole number."),
    "key of a class": (
        ["--model.nois", "null"],
        "model.nois is not a key of ImageClassification. Did you mean 'noise'?",
    ),
    "key further in": (
        ["--model.hardware.encoding.maping", "offset"],
        "encoding.maping is not a key of EncodingOptions.",
    ),
    "moved key": (["--model.device.mapping", "offset"], "model.device.mapping moved: write model.hardware.encoding."),
    "choice": (["--model.noise.kind", "devic"], "model.noise.kind: 'devic' is unknown. Did you mean 'device'?"),
    "class": (["--model", "ImageClasification"], "class 'ImageClasification'. Did you mean 'ImageClassification'?"),
    "device": (["--model.hardware.device.name", "reram_cmmo"], "'reram_cmmo' is unknown. Did you mean 'reram_cmo'?"),
    "mapping": (["--model.hardware.encoding.mapping", "diferential"], "'diferential' is unknown. Did you mean 'diffe"),
    "repair": (["--evaluation.methods", "[vera_pls]"], "no class 'vera_pls'. Did you mean 'vera_plus'?"),
    "repair's class": (["--evaluation.methods", "[{class_path: VeraPlsu}]"], "Did you mean 'VeraPlus'?"),
    "repair's key": (
        ["--evaluation.methods", "[{class_path: VeraPlus, rnk: 1}]"],
        "not a key of VeraPlus. Did you mean",
    ),
    "in a list": (
        ["--evaluation.hardware", "[{device: {name: pcm}, encoding: {map: offset}}]"],
        "not a key of Encoding",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_typing_errors(case):
    arguments, reason = CASES[case]
    with pytest.raises(UserError) as error:
        precheck("compare", normalise_options(["--config", FINETUNE, *arguments]))
    assert reason in str(error.value) and str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--config", FINETUNE, "--trainer.max_epoch", "3"],
        ["compare", "--config", FINETUNE, "--evaluation.methods", "[vera_pls]"],
        ["device", "show", "reram_cmmo"],
        ["quickstart", "--trainer.max_epoch", "3"],
    ],
    ids=" ".join,
)
def test_they_are_told_within_two_seconds_without_torch(arguments):
    code = (
        "import sys; from hwaware.cli.main import main; status = main(sys.argv[1:]);"
        "heavy = {'torch', 'lightning', 'timm'} & set(sys.modules); assert status == 2 and not heavy, heavy"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.startswith("hwaware: ") and done.stderr.count("\n") == 1, done.stderr
    assert time.monotonic() - begin < 2


def test_something_is_said_within_a_second():
    process = subprocess.Popen([sys.executable, "-m", "hwaware", "fit", "--config", FINETUNE, "--print_config"],
                               cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    begin = time.monotonic()
    try:
        assert process.stderr.readline() == "hwaware fit: loading …\n"
        assert time.monotonic() - begin < 1
    finally:
        process.kill()
        process.communicate()


def test_recipes_have_none():
    for recipe in sorted([*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("tests/conf/*.yaml")]):
        if "method" not in (yaml.safe_load(recipe.read_text()) or {}):  # a sweep's file is no recipe
            precheck("compare", ["--config", str(recipe)])


def test_a_whole_configuration_has_none(tmp_path, capsys):
    assert main(["fit", "--config", FINETUNE, "--print_config"]) == 0
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    precheck("fit", ["--config", str(tmp_path / "config.yaml")])
    precheck("fit", ["--config", FINETUNE, "--model.help", "ImageClassification", "--nonsense"])


def test_what_is_not_known_is_left_to_the_parser():
    for arguments in (
        ["--model", "own_task.DigitQuestions", "--model.width", "3"],
        ["--trainer.callbacks", "tests.tiny.SignalAt", "--trainer.callbacks.step", "3"],
        ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "1e-3"],
        ["--evaluation.methods", "[own_repair.MeanShift, vera_plus]"],
        ["--model.hardware.device.name", "mine.yaml"],
        ["--evaluation.ages_s", "[0, 1d, 10y]"],
    ):
        precheck("fit", normalise_options(["--config", FINETUNE, *arguments]))


def test_the_source_says_what_constructors_take():
    for module, cls in (("lightning.pytorch", Trainer), ("hwaware.callbacks", DriftEvaluation)):
        found = find_class(module, cls.__name__)
        assert [*found.takes] == [*signature(cls).parameters] and not found.more
    own, base = ({*signature(cls.__init__).parameters} for cls in (ImageClassification, HardwareAwareTask))
    assert set(find_class("hwaware.tasks", "ImageClassification").takes) == (own | base) - {"self", "options"}
    assert {"save_last", "every_n_train_steps"} < set(find_class("hwaware.callbacks", StepCheckpoint.__name__).takes)
    options = find_class("hwaware.hardware", "EncodingOptions").takes
    assert [*options] == [field.name for field in fields(EncodingOptions)]
    assert strings_given_to("hwaware.hardware.encoding.mapping", "Mapping") == [*MAPPINGS]


def test_repairs_have_two_names():
    classes, found = Compensation.__subclasses__(), {}
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        if cls.__module__.startswith("hwaware.") and "name" in vars(cls):
            found[cls.name] = cls.__name__
    assert found == REPAIRS


def test_recipes_take_both(capsys):
    short = "[vera_plus_constant, {class_path: rsa, init_args: {images: 10}}]"
    assert main(["compare", "--config", FINETUNE, "--evaluation.methods", short, "--print_config"]) == 0
    methods = yaml.safe_load(capsys.readouterr().out)["evaluation"]["methods"]
    assert [one["class_path"].rpartition(".")[2] for one in methods] == ["VeraPlus", "RandomSparseAdaptation"]
    assert methods[0]["init_args"]["constant"] is True and methods[1]["init_args"]["images"] == 10
