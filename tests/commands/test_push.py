"""hwaware push and what loads its folders; hwaware onnx."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load, load_file

import hwaware
from hwaware.chip import Chip, drift_free
from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.export.hub import save_pretrained
from hwaware.export.weights import read_header
from hwaware.hardware import Converters
from hwaware.nn import Measured, analog_layers, main_hardware
from hwaware.results.csv import read_rows, write_rows
from tests.command_line import FINETUNE, measured, pretrained_weights, run

pytestmark = pytest.mark.slow

AGE_S = 315_360_000.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished finetune."""
    folder = tmp_path_factory.mktemp("runs")
    run("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder)
    return folder / "finetune" / "version_0"


@pytest.fixture
def handed(finished, tmp_path):
    """The folder that ``hwaware push`` makes of it."""
    arguments = ("--weights", finished / "model.safetensors", "--out", tmp_path / "handed", "--license", "mit")
    run("push", "--config", finished / "config.yaml", *arguments)
    return tmp_path / "handed"


def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_folder_loads_in_plain_timm(finished, handed):
    names = {path.name for path in handed.iterdir()}
    assert names == {"README.md", "config.json", "hardware.json", "model.safetensors", "rows.csv"}
    plain = timm.create_model(f"local-dir:{handed}", pretrained=True).eval()
    tiny = timm.create_model("tiny_test_net").eval()
    tiny.load_state_dict(load_file(finished / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(plain(images()), tiny(images()))
    assert list(plain.pretrained_cfg["mean"]) == [0.5, 0.5, 0.5] and plain.num_classes == 10


@pytest.mark.parametrize("kind", ["weights", "checkpoint"])
def test_the_recipe_s_preprocessing_is_handed_on(kind, tmp_path):
    """The weights carry it, so that neither push nor onnx needs the data."""
    onnx = pytest.importorskip("onnx")
    given = ["--data.mean", "[0.1, 0.2, 0.3]", "--data.std", 0.4, "--data.crop_pct", 0.9]
    given += ["--data.interpolation", "bilinear", "--evaluation.networks", "[]", "--trainer.max_steps", 1]
    root = ("--trainer.default_root_dir", tmp_path / "runs")
    run("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), *root, *given)
    folder = tmp_path / "runs" / "finetune" / "version_0"
    file = ("--weights", folder) if kind == "weights" else ("--ckpt_path", folder / "checkpoints" / "last.ckpt")
    run("push", "--config", FINETUNE, *file, "--out", tmp_path / "handed")
    run("onnx", "--config", FINETUNE, *file, "--out", tmp_path / "model.onnx")
    config = json.loads((tmp_path / "handed" / "config.json").read_text())["pretrained_cfg"]
    about = {one.key: one.value for one in onnx.load(tmp_path / "model.onnx").metadata_props}
    wanted = [[0.1, 0.2, 0.3], [0.4] * 3, 0.9, "bilinear"]
    for found in (config, json.loads(about["preprocessing"])):
        assert [found[name] for name in ("mean", "std", "crop_pct", "interpolation")] == wanted
    assert read_header(tmp_path / "handed" / "model.safetensors")["preprocessing"]["mean"] == wanted[0]


def test_folder_loads_for_its_device(handed):
    model = hwaware.from_pretrained(handed)
    hardware = main_hardware(model)
    assert (hardware.device.name, hardware.encoding.mapping) == ("reram_cmo", "differential")
    assert len(analog_layers(model)) == 3
    plain = timm.create_model(f"local-dir:{handed}", pretrained=True).eval()
    with torch.no_grad(), drift_free(model):
        torch.testing.assert_close(model(images()), plain(images()))
    with torch.no_grad(), Chip.program(model, seed=2_000_000).at(AGE_S):
        assert not torch.allclose(model(images()), plain(images()))


def test_converters_are_handed_on_with_their_ranges(tmp_path):
    converters = ("--model.hardware.crossbar.converters", "{dac_bits: 6, adc_bits: 5}")
    arguments = ("--trainer.default_root_dir", tmp_path / "runs", *converters)
    fit = ("--model.weights", pretrained_weights(), "--evaluation.networks", "[]", "--trainer.max_steps", 1)
    run("fit", "--config", FINETUNE, *fit, *arguments)
    finished = tmp_path / "runs" / "finetune" / "version_0"
    weights = ("--weights", finished / "model.safetensors", "--out", tmp_path / "handed")
    run("push", "--config", finished / "config.yaml", *weights)
    model = hwaware.from_pretrained(tmp_path / "handed")
    header = read_header(finished / "model.safetensors")
    assert Measured.of(model).ranges == header["ranges"] != {}
    assert {layer.converters for layer in analog_layers(model).values()} == {Converters(dac_bits=6, adc_bits=5)}


def test_rows_of_the_base_network_are_not_passed_off(finished, tmp_path, capsys):
    rows = [row for row in read_rows(finished / "rows.csv") if row.network == "base"]
    write_rows(tmp_path / "base.csv", rows)
    weights = ("--weights", str(finished / "model.safetensors"), "--out", str(tmp_path / "handed"))
    arguments = ["push", "--config", str(finished / "config.yaml"), *weights, "--rows", str(tmp_path / "base.csv")]
    assert main(arguments) == 2
    assert "has no rows of a finetuned network" in capsys.readouterr().err
    assert not (tmp_path / "handed").exists()


def test_card_has_metadata_and_the_drift_table(handed):
    card = ModelCard.load(handed / "README.md")
    assert card.data.license == "mit" and card.data.library_name == "timm" and "hwaware" in card.data.tags
    rows = [row for row in read_rows(handed / "rows.csv") if row.network == "finetuned" and row.metric == "top1"]
    oldest = [row.value for row in rows if row.age_s == AGE_S]
    mean = sum(oldest) / len(oldest)
    assert f"{mean:.2f} ± " in card.text and "10 years" in card.text and "| finetuned |" in card.text
    found = [one.metric_value for one in card.data.eval_results if "top-1 accuracy (%) at 10 years" in one.metric_name]
    assert found == [round(mean, 2)]
    hardware = json.loads((handed / "hardware.json").read_text())
    assert hardware["default"]["device"]["name"] == "reram_cmo" and hardware["layers"] == []
    code = card.text.split("```python\n")
    for block in code[1:]:
        exec(block.partition("```")[0], {"images": images()})


@pytest.mark.parametrize(("command", "out"), [("push", "folder"), ("onnx", "model.onnx")])
@pytest.mark.parametrize("recipe", ["model alone", "data that is not there"])
def test_neither_data_nor_trainer_is_needed(command, out, recipe, finished, tmp_path, monkeypatch):
    if command == "onnx":
        pytest.importorskip("onnxscript")
    config = yaml.safe_load((finished / "config.yaml").read_text())
    if recipe == "model alone":
        config = {"model": config["model"]}
    else:
        config |= {"data": {"class_path": "gone.Images", "init_args": {"path": "x"}}, "trainer": {"devices": 64}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("hwaware.cli.build.Trainer", None)
    options = ("--data.path", "nowhere", "--trainer.precision", "x")
    run(command, "--config", tmp_path / "recipe.yaml", "--weights", finished, "--out", tmp_path / out, *options)
    assert (tmp_path / out).exists()


def test_the_latest_checkpoint_is_found_without_a_trainer(finished, tmp_path):
    weights = ("--ckpt_path", "last", "--recipe", "finetune", "--trainer.default_root_dir", finished.parent.parent)
    run("push", "--config", FINETUNE, *weights, "--out", tmp_path / "handed")
    assert (tmp_path / "handed" / "model.safetensors").is_file()


def test_drift_takes_the_folder_and_repeats_the_rows(finished, handed, tmp_path):
    common = ("drift", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--recipe", "finetune")
    run(*common, "--weights", handed, "--trainer.default_root_dir", tmp_path)
    assert measured(tmp_path / "finetune" / "version_0" / "rows.csv") == measured(finished / "rows.csv")


def test_a_checkpoint_is_handed_on_as_the_weights_are(finished, tmp_path):
    """The last one is of the step before the finished weights were written; here, of the very step."""
    few = ("--trainer.max_steps", 3, "--evaluation.networks", "[finetuned]", "--evaluation.ages_s", f"[{AGE_S}]")
    common = ("fit", "--config", finished / "config.yaml", *few, "--evaluation.n_chips", 1)
    run(*common, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", tmp_path)
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    run("push", "--config", finished / "config.yaml", "--ckpt_path", checkpoint, "--out", tmp_path / "handed")
    theirs, folder = load_file(tmp_path / "handed" / "model.safetensors"), checkpoint.parent.parent
    ours = load_file(folder / "model.safetensors")
    assert all(torch.equal(theirs[key], ours[key]) for key in ours)
    assert measured(tmp_path / "handed" / "rows.csv") == measured(folder / "rows.csv")
    assert "Not measured" not in (tmp_path / "handed" / "README.md").read_text()


def test_rows_are_not_passed_off_as_an_earlier_checkpoints(finished, tmp_path, capsys):
    """The last one is here of two steps before the end, which rows are of."""
    checkpoint = finished / "checkpoints" / "last.ckpt"
    run("push", "--config", finished / "config.yaml", "--ckpt_path", checkpoint, "--out", tmp_path / "handed")
    told = f"'{finished / 'rows.csv'}' belongs to the run's model.safetensors, not to 'last.ckpt', which differs"
    assert told in capsys.readouterr().out
    assert "Not measured" in (tmp_path / "handed" / "README.md").read_text()


def test_fit_starts_from_a_folder(handed, tmp_path):
    options = ("--model.weights", handed, "--trainer.default_root_dir", tmp_path, "--evaluation.networks", "[]")
    run("fit", "--config", FINETUNE, *options, "--trainer.max_steps", 1)


class Hub:
    """What of the hub's client is used; keeps what it was asked for."""

    calls: ClassVar[dict] = {}

    def __init__(self, **options):
        pass

    def whoami(self):
        return {"name": "someone"}

    def create_repo(self, repository, exist_ok):
        class Url(str):
            repo_id = repository

        return Url(f"https://hub/{repository}")

    def upload_folder(self, repo_id, folder_path, commit_message):
        Hub.calls[repo_id] = {path.name: path.read_bytes() for path in folder_path.iterdir()}


def test_push_uploads_the_folder(finished, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    run("push", "--config", finished / "config.yaml", "--weights", finished, "--repo", "someone/tiny-reram")
    assert "https://hub/someone/tiny-reram" in capsys.readouterr().out
    files = Hub.calls["someone/tiny-reram"]
    theirs, ours = load(files["model.safetensors"]), load_file(finished / "model.safetensors")
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in ours)
    card = files["README.md"].decode()
    assert 'timm.create_model("hf-hub:someone/tiny-reram", pretrained=True)' in card
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["name"] == "tiny-reram"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give --repo USER/NAME"),
        (["--weights", "null", "--out", "a"], "give --weights"),
        (["--ckpt_path", "a.ckpt", "--out", "a"], "exclude each other"),
        (["--repo", "someone/tiny/1"], "'someone/tiny/1' is not a repository name"),
        (["--repo", "someone/tiny"], "no token of the Hugging Face hub"),
        (["--out", "{finished}"], "exists already"),
        (["--out", "a", "--rows", "nowhere.csv"], "no file of rows 'nowhere.csv'"),
        (["--out", "a", "--weights", "{plain}"], "was not finetuned for hardware"),
        (["--out", "a", "--weights", "{finished}/checkpoints"], "has no model.safetensors"),
        (["--out", "a", "--weights", "hf-hub:someone/tiny"], "cannot get model.safetensors of 'hf-hub:someone/tiny'"),
        (["--out", "a", "--model.name", "resnet20_cifar", "--model.weights", "null"], "network is resnet20_cifar"),
    ],
)
def test_bad_input(arguments, reason, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    capsys.readouterr()
    paths = {"finished": finished, "plain": pretrained_weights()}
    command = ["push", "--config", str(finished / "config.yaml"), "--weights", str(finished)]
    assert main([*command, *(part.format(**paths) for part in arguments)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert reason in lines[0] and len(lines) <= 2
    assert list(tmp_path.iterdir()) == []


def test_hub_weights_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    command = ["drift", "--config", FINETUNE, "--model.weights", str(pretrained_weights())]
    assert main([*command, "--weights", "hf-hub:someone/tiny"]) == 2
    error = capsys.readouterr().err
    assert "cannot get model.safetensors of 'hf-hub:someone/tiny'" in error and "give a folder" in error
    assert list(tmp_path.iterdir()) == []


# ONNX


def test_onnx_gives_the_drift_free_networks_logits(finished, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    run("onnx", "--config", finished / "config.yaml", "--weights", finished, "--out", file)
    session = onnxruntime.InferenceSession(file)
    (logits,) = session.run(["logits"], {"images": images().numpy()})
    model = timm.create_model("tiny_test_net").eval()
    model.load_state_dict(load_file(finished / "model.safetensors"))
    hwaware.convert(model, hwaware.load_hardware("reram_cmo", mapping="differential"))
    with torch.no_grad(), drift_free(model):
        torch.testing.assert_close(torch.from_numpy(logits), model(images()), rtol=1e-4, atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert about["network"] == "tiny_test_net"
    assert json.loads(about["hardware"])["default"]["device"]["name"] == "reram_cmo"
    assert json.loads(about["preprocessing"])["mean"] == [0.5, 0.5, 0.5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_onnx_refuses(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["onnx", "--config", str(finished / "config.yaml"), "--weights", str(finished)]
    assert main(command) == 2 and "give --out" in capsys.readouterr().err
    assert main([*command, "--out", "model.pt"]) == 2 and "must end in .onnx" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    assert main([*command, "--out", "model.onnx"]) == 2
    assert "pip install 'hwaware[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_the_number_of_its_features(tmp_path):
    with pytest.raises(UserError, match=r"network 'mine' has no attribute num_features.*set self\.num_features"):
        save_pretrained(tmp_path / "folder", torch.nn.Linear(4, 2), "mine", {})
    assert not list(tmp_path.iterdir())
