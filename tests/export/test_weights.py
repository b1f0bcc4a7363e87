"""The two files of a result, and telling files of weights apart."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hwaware.errors import UserError
from hwaware.export.weights import load_weights, read_checkpoint, read_header, save_weights
from hwaware.hardware import HardwareOptions
from hwaware.tasks import ImageClassification
from tests.command_line import FINETUNE, pretrained_weights, run
from tests.placing import options


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a finetuned run."""
    folder = tmp_path_factory.mktemp("finished")
    common = ("--config", FINETUNE, "--model.weights", pretrained_weights(), "--evaluation.networks", "[]")
    run(
        "fit",
        *common,
        "--trainer.default_root_dir",
        folder,
        "--trainer.max_epochs",
        1,
        "--checkpoint.every_n_train_steps",
        10,
    )
    return folder / "finetune" / "version_0"


def make(**settings) -> ImageClassification:
    return ImageClassification("tiny_test_net", num_classes=10, **{"weights": str(pretrained_weights()), **settings})


def trained(folder: Path) -> ImageClassification:
    """The task as training left it: latents from the checkpoint, on its device."""
    task = make(hardware=options("reram_cmo", mapping="differential"))
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    task.load_state_dict(state)
    return task


def test_plain_timm_loads_the_result(finished):
    """No line of this package: create_model and load_state_dict give the logits of the converted network."""
    plain = timm.create_model("tiny_test_net", num_classes=10)
    plain.load_state_dict(load_file(finished / "model.safetensors"))
    x = torch.randn(8, 3, 8, 8)
    converted = trained(finished).network.eval()(x)
    torch.testing.assert_close(plain.eval()(x), converted, rtol=1e-5, atol=1e-5)
    latents = load_file(finished / "model.safetensors")["conv2.weight"] - trained(finished).network.conv2.weight
    assert latents.abs().max() > 1e-3  # effective weights, not latents


def test_timm_loads_the_result_as_its_own_checkpoint_file(finished):
    overlay = {"file": str(finished / "model.safetensors")}
    plain = timm.create_model("tiny_test_net", pretrained=True, num_classes=10, pretrained_cfg_overlay=overlay)
    assert plain.conv1.weight.equal(load_file(finished / "model.safetensors")["conv1.weight"])


def test_header_names_hardware_network_and_versions(finished):
    with safe_open(finished / "model.safetensors", "pt") as file:
        header = json.loads(file.metadata()["hwaware"])
    assert header["network"] == "tiny_test_net"
    assert header["hardware"]["default"]["device"]["name"] == "reram_cmo"
    assert header["hardware"]["default"]["encoding"]["mapping"] == "differential"
    assert set(header["versions"]) == {"hwaware", "torch", "timm", "transformers"}
    assert read_header(pretrained_weights())["hardware"] is None


def test_weights_and_checkpoint_give_the_same_network(finished):
    task = make(hardware=HardwareOptions({"name": "reram_cmo"}))
    kind, from_weights = load_weights(task, finished / "model.safetensors")
    same, from_checkpoint = load_weights(task, finished / "checkpoints" / "last.ckpt")
    assert (kind, same) == ("finetuned", "finetuned")
    for key, value in from_weights.state_dict().items():
        assert value.equal(from_checkpoint.state_dict()[key]), key


def test_checkpoint_is_read_with_the_hardware_it_was_trained_for(finished):
    # A recipe with another non-linearity must not reinterpret the latents.
    task = make(hardware=options("reram_cmo", kappa=1.0, mapping="offset"))
    _, network = load_weights(task, finished / "checkpoints" / "last.ckpt")
    expected = load_file(finished / "model.safetensors")["conv1.weight"]
    assert network.conv1.weight.equal(expected)


def test_plain_weights_are_the_base(tmp_path):
    state = load_file(pretrained_weights())
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pth")
    for name in ("plain.safetensors", "plain.pth"):
        kind, network = load_weights(make(weights=None), tmp_path / name)
        assert kind == "base"
        assert network.conv1.weight.equal(state["conv1.weight"])


def test_another_trainers_checkpoint_is_plain_weights_too(tmp_path):
    state = load_file(pretrained_weights())
    other = {"pytorch-lightning_version": "2.6", "state_dict": {f"model.{key}": value for key, value in state.items()}}
    torch.save(other, tmp_path / "theirs.ckpt")
    for kind, network in (
        load_weights(make(weights=None), tmp_path / "theirs.ckpt"),
        ("base", make(weights=str(tmp_path / "theirs.ckpt")).network),
    ):
        assert kind == "base" and network.conv1.weight.equal(state["conv1.weight"])
    with pytest.raises(UserError, match=r"not the checkpoint of a run .*as --weights or --model.weights"):
        read_checkpoint(tmp_path / "theirs.ckpt")


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = save_weights(make(), tmp_path / "model.safetensors")
    before = path.read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(make(weights=None), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Unsafe:
    """Something that pickle would have to import."""


def test_lightnings_own_way_of_loading_a_checkpoint(finished):
    file = finished / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"does not contain the task's settings \(missing .*'name'\): pass them"):
        ImageClassification.load_from_checkpoint(file)
    held = options("reram_cmo", mapping="differential")
    task = ImageClassification.load_from_checkpoint(file, name="tiny_test_net", num_classes=10, hardware=held)
    assert task.network.conv1.weight.equal(trained(finished).network.conv1.weight)
    with pytest.raises(UserError, match="checkpoint belongs to another hardware"):
        ImageClassification.load_from_checkpoint(file, name="tiny_test_net", num_classes=10)


def test_wrong_files_are_told_apart(tmp_path, finished):
    task = make()
    whole = (finished / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"hwaware": Unsafe()}, tmp_path / "unsafe.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "cut.safetensors").write_bytes(pretrained_weights().read_bytes()[:500])
    for name, reason in {
        "none.ckpt": "there is no checkpoint",
        "cut.ckpt": "cut short",
        "unsafe.ckpt": "can't be loaded safely",
        "other.ckpt": "does not contain a state_dict",
        "cut.safetensors": "cut short",
        "none.safetensors": "there is no weight file",
    }.items():
        with pytest.raises(UserError, match=reason) as error:
            load_weights(task, tmp_path / name)
        assert len(str(error.value).splitlines()) <= 2


def test_weights_of_another_network(finished):
    task = ImageClassification("resnet20_cifar")
    for file in (finished / "model.safetensors", finished / "checkpoints" / "last.ckpt"):
        with pytest.raises(UserError, match="tiny_test_net; the recipe's network is resnet20_cifar"):
            load_weights(task, file)


def test_checkpoint_holds_plain_types_only(finished):
    assert read_checkpoint(finished / "checkpoints" / "last.ckpt")["hwaware"]["network"] == "tiny_test_net"


@pytest.mark.parametrize(
    "part", ["loops", "optimizer_states", "lr_schedulers", "global_step", "callbacks", "state_dict", "hwaware"]
)
def test_a_checkpoint_that_lacks_a_part(part, finished, tmp_path):
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    del checkpoint[part]
    torch.save(checkpoint, tmp_path / "less.ckpt")
    with pytest.raises(UserError, match=f"has no '{part}'|is not the checkpoint of a run"):
        read_checkpoint(tmp_path / "less.ckpt", to_resume=True)
    if part in ("loops", "optimizer_states", "lr_schedulers", "global_step", "callbacks"):  # the network is there
        read_checkpoint(tmp_path / "less.ckpt")


@pytest.mark.parametrize("damage", [{"optimizer_states": []}, {"loops": {"a": [1]}}])
def test_a_checkpoint_with_nothing_in_a_part(damage, finished, tmp_path):
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**checkpoint, **damage}, tmp_path / "less.ckpt")
    with pytest.raises(UserError, match="has nothing in 'optimizer_states' or 'loops'"):
        read_checkpoint(tmp_path / "less.ckpt", to_resume=True)
    assert read_checkpoint(tmp_path / "less.ckpt")


@pytest.mark.parametrize("damage", [{"state_dict": 3}, {"hwaware": []}, {"hwaware": {"network": "a"}}])
def test_a_checkpoint_with_something_else_in_it(damage, finished, tmp_path):
    checkpoint = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save({**checkpoint, **damage}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"has no '|does not name its network"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_weights_are_no_checkpoint_whatever_torch_makes_of_the_file(tmp_path, monkeypatch):
    """Versions of torch that read safetensors return its tensors; others fail."""
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    for load in (lambda *_, **__: {"weight": torch.zeros(2)}, lambda *_, **__: pickle.loads(b"no")):
        monkeypatch.setattr(torch, "load", load)
        with pytest.raises(UserError, match="is not the checkpoint of a run of this package"):
            read_checkpoint(tmp_path / "model.safetensors")
