"""Checkpoints of other trainers: which of their weights are taken, under which names, and that nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import re

import numpy as np
import pytest
import timm
import torch
from lightning import LightningModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hwaware.errors import UserError
from hwaware.models import build_model
from hwaware.models.weight_files import read_weights

NAME = "resnet20_cifar"


@pytest.fixture(scope="module")
def raw():
    torch.manual_seed(1)
    return timm.create_model(NAME).state_dict()


@pytest.fixture(scope="module")
def averaged(raw):
    return {key: value / 2 for key, value in raw.items()}


def load(tmp_path, content, **options):
    torch.save(content, tmp_path / "model_best.pth.tar")
    return build_model(options.pop("name", NAME), weights=str(tmp_path / "model_best.pth.tar"), **options)


def same(model, state):
    return all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items() if "tracked" not in key)


def timms(raw, averaged):
    """As timm's train.py writes it: with its arguments, and numpy's numbers."""
    arguments = argparse.Namespace(lr=0.1, model=NAME, out=pathlib.Path("runs"))
    return {
        "epoch": 3,
        "arch": NAME,
        "args": arguments,
        "metric": np.float64(81.5),
        "state_dict": raw,
        "state_dict_ema": averaged,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }


def test_averaged_weights_are_taken_and_that_is_said(tmp_path, raw, averaged):
    with pytest.warns(
        UserWarning, match=r"the weights state_dict, state_dict_ema: state_dict_ema \(averaged .* is used"
    ):
        assert same(load(tmp_path, timms(raw, averaged)), averaged)
    assert same(load(tmp_path, timms(raw, averaged), weights_key="state_dict"), raw)


@pytest.mark.parametrize(
    ("tables", "taken"),
    [
        (("model", "model_ema"), "model_ema"),
        (("model_state_dict", "discriminator"), "model_state_dict"),
        (("net",), "net"),
        (("ema.module", "model"), "ema.module"),
    ],
)
def test_which_table_is_meant(tmp_path, raw, averaged, tables, taken):
    content = {}
    for table in tables:
        outer, _, inner = table.partition(".")
        state = raw if table == taken else averaged
        content[outer] = {inner: state, "decay": 0.99} if inner else state
    torch.save(content, tmp_path / "w.pth")
    state = read_weights(tmp_path / "w.pth")
    assert state.keys() == raw.keys() and torch.equal(state["linear.weight"], raw["linear.weight"])


@pytest.mark.parametrize(
    ("content", "key", "said"),
    [
        (lambda s: {"student": s, "teacher": s}, None, "several .*set model.weights_key to student or teacher"),
        (lambda s: {"student": s, "teacher": s}, "techer", "no table of weights 'techer'. Did you mean 'teacher'"),
        (lambda s: s, "state_dict", "It is one table of tensors: leave weights_key out"),
    ],
)
def test_what_is_not_clear_is_asked(tmp_path, raw, content, key, said):
    with pytest.raises(UserError, match=said):
        load(tmp_path, content(raw), weights_key=key)


@pytest.mark.parametrize("prefix", ["model.", "net.", "module.", "_orig_mod.", "module._orig_mod.", "task.encoder."])
def test_a_common_prefix_is_taken_off(tmp_path, raw, prefix):
    named = {f"{prefix}{key}": value for key, value in raw.items()}
    assert same(load(tmp_path, named), raw)
    checkpoint = {"pytorch-lightning_version": "2.6", "epoch": 1, "state_dict": named, "callbacks": {}}
    assert same(load(tmp_path, checkpoint), raw)


def test_compiled_parts_and_torchs_averaged_models(tmp_path, raw):
    network = timm.create_model(NAME)
    network.load_state_dict(raw)
    network.layer1 = torch.compile(network.layer1)
    assert any("layer1._orig_mod." in key for key in network.state_dict())
    assert same(load(tmp_path, network.state_dict()), raw)
    ema = AveragedModel(build_model(NAME), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    ema.module.load_state_dict(raw)
    assert "n_averaged" in ema.state_dict() and same(load(tmp_path, ema.state_dict()), raw)


def test_a_prefix_is_not_guessed_where_more_than_the_network_is_there(tmp_path, raw):
    both = {f"{who}.{key}": value for who in ("student", "teacher") for key, value in raw.items()}
    with pytest.raises(UserError, match=r"0 tensors missing, \d+ unexpected"):
        load(tmp_path, both)
    with pytest.raises(UserError, match=r"1 unexpected.*\n.*criterion.weight is unexpected"):
        load(tmp_path, {f"model.{key}": value for key, value in raw.items()} | {"criterion.weight": torch.ones(3)})


@pytest.mark.parametrize(
    "value",
    [
        argparse.Namespace(lr=0.1),
        np.float32(0.5),
        np.int64(3),
        np.bool_(True),
        np.arange(3),
        {"best": np.float64(0.1), "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)},
        pathlib.Path("runs") / "one",
        collections.OrderedDict(a=1),
    ],
)
def test_harmless_values_beside_weights(tmp_path, raw, value):
    assert same(load(tmp_path, {"state_dict": raw, "about": value}), raw)


class Module(LightningModule):
    """Of no package that is allowed."""


def test_another_object_is_named_and_not_made(tmp_path, raw):
    with pytest.raises(UserError, match=r"contains Python objects besides tensors \(.*Module\)") as error:
        load(tmp_path, {"state_dict": raw, "model": Module()})
    assert len(str(error.value).splitlines()) == 2


def test_weights_for_another_input_size_and_in_older_names(tmp_path):
    """By timm's own function for the network; of those that need none nothing is said."""
    torch.manual_seed(0)
    small = timm.create_model("vit_tiny_patch16_224", img_size=96, depth=1)
    with pytest.warns(UserWarning, match="adapted to vit_tiny_patch16_224 by timm"):
        model = load(tmp_path, {"model": small.state_dict()}, name="vit_tiny_patch16_224", depth=1)
    assert model.pos_embed.shape == (1, 197, 192) and torch.equal(model.cls_token, small.cls_token)
    new = small_swin().state_dict()
    older = {f"model.{_older(key)}": value for key, value in new.items()}
    older["model.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(1)  # a buffer that was saved then
    with pytest.warns(UserWarning, match="adapted"):
        model = load(tmp_path, older, name="swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1))
    assert all(torch.equal(value, new[key]) for key, value in model.state_dict().items())


def _older(key):
    """A name in Swin as it was before timm 0.9."""
    key = re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", key)
    return key.replace("head.fc.", "head.")


def small_swin():
    return timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1))


def test_buffers_that_a_network_does_not_save_are_left_out(tmp_path):
    network = small_swin()
    saved = network.state_dict()
    buffers = {key: value for key, value in network.named_buffers() if key not in saved}
    assert buffers
    model = load(tmp_path, saved | buffers, name="swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1))
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
