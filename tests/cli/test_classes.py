"""A recipe runs nothing but what its keys ask for."""

import pytest
import torch
import yaml

from hwaware.cli.main import main
from tests.command_line import CONF

HARMFUL = [
    {"class_path": "os.system", "init_args": {"command": "touch RAN"}},
    {"class_path": "subprocess.Popen", "init_args": {"args": "touch RAN", "shell": True}},
    {"class_path": "subprocess.check_output", "init_args": {"args": "touch RAN", "shell": True}},
    {"class_path": "shutil.copy", "init_args": {"src": "recipe.yaml", "dst": "RAN"}},
]


def refused(tmp_path, monkeypatch, capsys, recipe):
    """What a command says that refuses a recipe, having run nothing of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"based_on": str(CONF / "finetune.yaml"), **recipe}))
    assert main(["fit", "--config", "recipe.yaml"]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]
    return capsys.readouterr().err


@pytest.mark.parametrize("key", ["optimizer", "scheduler"])
@pytest.mark.parametrize("value", HARMFUL, ids=lambda value: value["class_path"])
def test_a_callable_makes_what_its_key_asks_for(key, value, tmp_path, monkeypatch, capsys):
    said = refused(tmp_path, monkeypatch, capsys, {"model": {"init_args": {key: value}}})
    assert (
        said.startswith(f"hwaware: model.{key}: '{value['class_path']}' is not a subclass of ")
        and said.count("\n") == 1
    )


@pytest.mark.parametrize(
    "trainer",
    [
        {"callbacks": [HARMFUL[0]]},
        {"logger": {"class_path": "MLFlowLogger", "init_args": {"tags": {"a": HARMFUL[0]}}}},
        {"plugins": HARMFUL[0]},
        {"strategy": HARMFUL[0]},
    ],
    ids=["callbacks", "logger", "plugins", "strategy"],
)
def test_nothing_runs_below_other_keys(trainer, tmp_path, monkeypatch, capsys):
    assert "os.system" in refused(tmp_path, monkeypatch, capsys, {"trainer": trainer})


@pytest.mark.parametrize(
    "value", ["os.abort", HARMFUL[0], {"class_path": "functools.partial", "init_args": {"func": "os.abort"}}]
)
@pytest.mark.parametrize("arguments", ["init_args", "dict_kwargs"])
def test_no_function_is_handed_on_to_be_called(value, arguments, tmp_path, monkeypatch, capsys):
    callback = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", arguments: {"setup": value}}
    said = refused(tmp_path, monkeypatch, capsys, {"trainer": {"callbacks": [callback]}})
    assert said.startswith("hwaware: ") and said.count("\n") == 1


def test_an_argument_that_a_class_does_not_take(tmp_path, monkeypatch, capsys):
    said = refused(tmp_path, monkeypatch, capsys, {"data": {"dict_kwargs": {"a": 1}}})
    assert said == "hwaware: ImageData.__init__() got an unexpected keyword argument 'a'.\n"


def test_processes_that_no_machine_survives(tmp_path, monkeypatch, capsys):
    said = refused(tmp_path, monkeypatch, capsys, {"trainer": {"devices": 10**9}})
    assert said.startswith("hwaware: trainer.devices=1000000000 must be at most 1,000")


def sgd(parameters, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr)


def unsaid(parameters):
    return torch.optim.SGD(parameters, 0.1)


@pytest.mark.parametrize(
    ("name", "said"), [("sgd", "absent.pth"), ("unsaid", "unsaid' is not a subclass of Optimizer: give the name")]
)
def test_a_function_is_taken_by_its_name_if_it_says_what_it_returns(name, said, tmp_path, monkeypatch, capsys):
    recipe = {"model": {"init_args": {"optimizer": f"{__name__}.{name}", "weights": "absent.pth"}}}
    assert said in refused(tmp_path, monkeypatch, capsys, recipe)


@pytest.mark.parametrize(
    "value", [{"class_path": {"a": 1}}, {"class_path": 0.5}, {"class_path": "torch.optim.SGD", "init_args": [1]}]
)
def test_a_class_that_is_no_name_or_has_no_table(value, tmp_path, monkeypatch, capsys):
    said = refused(tmp_path, monkeypatch, capsys, {"model": {"init_args": {"optimizer": value}}})
    assert ("optimizer.class_path: " in said or "is not a table of keys" in said) and said.count("\n") == 1
