"""A sample of timm's architectures: results/census/census.py tries them all."""

from __future__ import annotations

import copy
import csv
import re
import sys

import census
import pytest
import timm
import torch
from timm_census import TOLERANCE, _measure_norms, examine
from torch import nn

from hwaware.hardware import load_hardware

DEVICE = load_hardware("reram_cmo")

SAMPLE = (
    "resnet18", "mobilenetv3_small_050", "convnext_atto", "efficientnet_b0", "vit_tiny_patch16_224", "repvgg_a0",
    "xcit_nano_12_p16_224", "levit_128s", "edgenext_xx_small", "poolformerv2_s12", "tf_mobilenetv3_small_minimal_100",
    "resmlp_12_224", "test_vit", "test_resnet", "test_efficientnet", "test_convnext", "test_nfnet",
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", SAMPLE)
def test_into_cells_and_back(name):
    found = examine(name, DEVICE)
    assert found.status == "ok", found.reason
    assert max(found.converted_error, found.returned_error) < TOLERANCE and found.aged_change > 1e-3
    assert found.cells >= 2 * found.layers > 0


def test_what_read_past_its_layers_calls_them_in_cells(monkeypatch):
    small = timm.create_model("beitv2_base_patch16_224", depth=1, embed_dim=24, num_heads=2)
    monkeypatch.setattr(timm, "create_model", lambda *_: copy.deepcopy(small))
    found = examine("beitv2_base_patch16_224", DEVICE)
    assert found.status == "ok" and found.layers == 6, found.reason


class _Reading(nn.Module):
    def __init__(self):
        super().__init__()
        self.pretrained_cfg = {"input_size": (3, 8, 8)}
        self.called, self.read = nn.Linear(192, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.called(x.flatten(1)) @ self.read.weight


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "efficientnet_cc_b0_4e",
            "20 more .CondConv2d. have weights.* no analog form .*blocks.4.*.conv_pw",
        ),  # mixes kernels
        ("reading", "the network never calls it: it reads the weight directly"),
    ],
)
def test_what_cannot_is_refused_and_named(name, reason, monkeypatch):
    if name == "reading":
        monkeypatch.setattr(timm, "create_model", lambda *_: _Reading())
        name = "resnet18"
    found = examine(name, DEVICE)
    assert found.status == "refused"
    assert re.search(reason, found.reason), found.reason


def test_a_large_one_is_converted_without_memory():
    found = examine("vit_giant_patch14_224", DEVICE, max_parameters=1e8)
    assert found.status == "large" and found.cells > 2e9 and found.parameters > 1e9


def test_another_function_is_a_failure(monkeypatch):
    class Odd(nn.Module):
        """Changes its mind with every call."""

        def __init__(self):
            super().__init__()
            self.pretrained_cfg = {"input_size": (3, 8, 8)}
            self.linear, self.calls = nn.Linear(192, 4), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x.flatten(1)) * self.calls

    monkeypatch.setattr(timm, "create_model", lambda *_: Odd())
    assert examine("resnet18", DEVICE).status == "failed"


@pytest.mark.parametrize(("gain", "status"), [(1e5, "ok"), (3e6, "failed")])  # beyond five per cent nothing is told
def test_a_chaotic_network_is_no_failure(gain, status, monkeypatch):
    class Chaotic(nn.Module):
        """Of which the last bits of a weight decide what comes out."""

        def __init__(self):
            super().__init__()
            self.pretrained_cfg = {"input_size": (3, 8, 8)}
            self.linear = nn.Linear(192, 40)

        def forward(self, x):
            return torch.sin(gain * self.linear(x.flatten(1)))

    monkeypatch.setattr(timm, "create_model", lambda *_: Chaotic())
    found = examine("resnet18", DEVICE)
    assert found.status == status and found.converted_error > TOLERANCE


def test_the_script_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["census.py", "--out", str(tmp_path / "c.csv"), "--filter", "test_resnet*"])
    assert census.main() == 0
    assert "1 architectures: 1 ok" in capsys.readouterr().out
    with (tmp_path / "c.csv").open() as file:
        (line,) = csv.DictReader(file)
    monkeypatch.setattr(census, "examine", lambda *_, **__: pytest.fail("tried again"))
    assert census.main() == 0
    with (tmp_path / "c.csv").open() as file:
        assert list(csv.DictReader(file)) == [line]


def test_batch_norms_are_given_the_statistics_of_the_network_itself():
    """With those that they are born with, rounding decides what some deep networks of random weights say."""
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5 * 4, 2)).eval()
    images = torch.randn(1, 3, 4, 4)
    _measure_norms(model, images)
    seen = {}
    model[1].register_forward_hook(lambda norm, inputs, output: seen.update(output=output))
    model(images)
    assert not model.training and not model[1].training
    assert seen["output"].mean().abs() < 1 and 0.2 < seen["output"].std() < 2
    assert not model[1].running_mean.equal(torch.zeros(5))
