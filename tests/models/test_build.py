"""Networks by name and weights by file, and what is said when they do not fit."""

import time

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from hwaware.errors import UserError
from hwaware.models import build_model

NAME = "resnet20_cifar"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return timm.create_model(NAME).state_dict()


def same(model, state):
    return all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_safetensors_with_header_and_half_precision(tmp_path, state):
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    save_file(half, tmp_path / "w.safetensors", metadata={"hwaware": "{}"})
    model = build_model(NAME, weights=str(tmp_path / "w.safetensors"))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert same(model, {k: v.to(state[k].dtype) for k, v in half.items()})


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_torch_file(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "w.pth")
    assert same(build_model(NAME, weights=str(tmp_path / "w.pth")), state)


def test_local_file_takes_precedence_over_the_hub(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    assert same(build_model(NAME, weights=str(tmp_path / "w.pth"), pretrained=True), state)


def test_batch_counters_may_be_missing(tmp_path, state):
    torch.save({k: v for k, v in state.items() if "tracked" not in k}, tmp_path / "w.pth")
    assert same(build_model(NAME, weights=str(tmp_path / "w.pth")), state)


def test_arguments_reach_the_network():
    assert build_model("resnet18", num_classes=3, in_chans=1)(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    with pytest.raises(UserError, match=r"resnet20_cifar does not take .*'depth'"):
        build_model(NAME, depth=3)


@pytest.mark.parametrize(
    ("name", "pretrained", "said"),
    [
        ("resnet20_cifr", False, r"unknown network 'resnet20_cifr'.* 'resnet20_cifar'"),
        ("resnet18.tv_in2k", True, r"resnet18 has no weights called 'tv_in2k'.* 'tv_in1k'"),
        (NAME, True, r"no weights to download for 'resnet20_cifar'.*--model.weights FILE"),
    ],
)
def test_names(name, pretrained, said):
    with pytest.raises(UserError, match=said):
        build_model(name, pretrained=pretrained)


@pytest.mark.parametrize("number", [0, 10**12])
def test_a_number_of_classes_within_reason(number):
    with pytest.raises(UserError, match=rf"num_classes={number} must lie in \[1, 1,000,000\]"):
        build_model(NAME, num_classes=number)


@pytest.mark.parametrize("name", ["hf-hub:a/../b", "local-dir:/nowhere"])
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_network_that_is_described_nowhere(name, pretrained):
    with pytest.raises(UserError, match=r"cannot get the .*"):
        build_model(name, pretrained=pretrained)


def test_an_empty_name_of_weights():
    with pytest.raises(UserError, match="the name of the file of weights is empty"):
        build_model(NAME, weights="")


@pytest.mark.parametrize(
    ("name", "pretrained", "said"),
    [
        ("resnet18.tv_in1k", True, r"pretrained weights of 'resnet18.tv_in1k'.*\n.*--model.weights FILE"),
        ("hf-hub:timm/resnet18.tv_in1k", False, "cannot get the network 'hf-hub:timm/resnet18.tv_in1k'"),
    ],
)
def test_no_network(name, pretrained, said, monkeypatch, tmp_path):
    def unresolvable(*_args, **_kwargs):
        raise OSError("Name or service not known")

    for proxy in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", unresolvable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    before, start = huggingface_hub.constants.HF_HUB_OFFLINE, time.monotonic()
    with pytest.raises(UserError, match=said):
        build_model(name, pretrained=pretrained)
    assert time.monotonic() - start < 10  # the hub's client alone tries for 45 s
    assert before == huggingface_hub.constants.HF_HUB_OFFLINE


def test_weights_of_another_network(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(UserError) as error:
        build_model("resnet32_cifar", weights=str(tmp_path / "w.safetensors"))
    # 6 blocks more, each of 2 convolutions and 2 norms of 4 tensors (the counters are not missed)
    assert "60 tensors missing, 0 unexpected, 0 of another shape" in str(error.value)
    assert "layer1.3.conv1.weight is missing" in str(error.value)
    with pytest.raises(UserError, match=r"0 tensors missing, 0 unexpected, 2 of .*\n.*linear.weight is \(10, 64\) in"):
        build_model(NAME, num_classes=5, weights=str(tmp_path / "w.safetensors"))
    save_file(state | {"extra": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"1 unexpected.*\n.*extra is unexpected"):
        build_model(NAME, weights=str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path, state, value):
    bad = {k: v.clone() for k, v in state.items()}
    bad["layer2.1.conv1.weight"][0, 0, 0, 0] = value
    save_file(bad, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"layer2.1.conv1.weight has 1 values that are NaN or infinite"):
        build_model(NAME, weights=str(tmp_path / "w.safetensors"))


def test_files_that_cannot_be_read(tmp_path, state):
    def said(file, message):
        with pytest.raises(UserError, match=message) as error:
            build_model(NAME, weights=str(file))
        assert str(file) in str(error.value) and len(str(error.value).splitlines()) <= 2

    said(tmp_path / "none.pth", "there is no weights file")
    said(tmp_path, "has no model.safetensors")
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    for file in (tmp_path / "w.safetensors", tmp_path / "w.pth"):
        file.write_bytes(file.read_bytes()[:-1000])
        said(file, "cut short")
        file.write_bytes(b"")
        said(file, "cut short")
    torch.save([1, 2], tmp_path / "w.pth")
    said(tmp_path / "w.pth", "does not contain a state_dict")
    torch.save({"hwaware": {}, "state_dict": state}, tmp_path / "run.ckpt")
    said(tmp_path / "run.ckpt", "model.safetensors, or this file as --ckpt_path")


class Touch:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_runs_nothing(tmp_path):
    torch.save({"w": Touch(str(tmp_path / "ran"))}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="can't be loaded safely"):
        build_model(NAME, weights=str(tmp_path / "w.pth"))
    assert not (tmp_path / "ran").exists()


def test_a_new_head_for_another_number_of_classes(tmp_path, state):
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    with pytest.raises(UserError, match="2 of another shape"):
        build_model(NAME, weights=str(file), num_classes=7)
    with pytest.warns(UserWarning, match="new, untrained head"):
        model = build_model(NAME, weights=str(file), num_classes=7, new_head=True)
    head = model.pretrained_cfg["classifier"]
    for key, value in model.state_dict().items():
        assert key.startswith(f"{head}.") or torch.equal(value, state[key])
    assert len(model.state_dict()[f"{head}.weight"]) == 7
