"""A network of all kinds of layers through the commands: finetuned, aged, read back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.layers.std_conv import ScaledStdConv2d
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from hwaware.export.weights import read_header
from hwaware.hardware import load_hardware
from hwaware.nn import analog_layers, convert
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, measured, run
from tests.tiny import _CFG

pytestmark = pytest.mark.slow


class KindsNet(nn.Module):
    """A standardised convolution, attention, a recurrent layer, a transposed and a one-dimensional convolution."""

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 12
        self.stem = ScaledStdConv2d(in_chans, 12, 3, stride=2)
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.recurrent = nn.LSTM(12, 12, batch_first=True)
        self.mix = nn.Conv1d(12, 12, 3, padding=1)
        self.up = nn.ConvTranspose2d(12, 12, 2, stride=2)
        self.norm = nn.BatchNorm2d(12)
        self.linear = nn.Linear(12 * 64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).relu().flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = tokens + self.recurrent(tokens)[0]
        mixed = self.mix(tokens.transpose(1, 2)).relu().unflatten(2, (4, 4))
        return self.linear(self.norm(self.up(mixed)).relu().flatten(1))


default_cfgs = generate_default_cfgs({"kinds_test_net": _CFG | {"first_conv": "stem"}})


@register_model
def kinds_test_net(pretrained: bool = False, **kwargs: Any) -> KindsNet:
    return build_model_with_cfg(KindsNet, "kinds_test_net", pretrained, **kwargs)


def test_all_kinds_through_the_commands(tmp_path):
    torch.manual_seed(0)
    save_file(KindsNet().state_dict(), weights := tmp_path / "weights.safetensors")
    few = ("--trainer.max_steps", 4, "--trainer.max_epochs", 1, "--evaluation.n_chips", 1)
    common = ("--config", FINETUNE, "--model.name", "kinds_test_net", "--model.weights", weights, *few)
    common = (*common, "--trainer.default_root_dir", tmp_path)
    run("fit", *common)
    folder = tmp_path / "finetune" / "version_0"
    assert read_header(folder / "model.safetensors")["hardware"]
    rows = read_rows(folder / "rows.csv")
    assert {row.network for row in rows} == {"base", "finetuned"}
    run("drift", *common, "--weights", folder / "model.safetensors")
    assert measured(tmp_path / "finetune" / "version_1" / "rows.csv") == measured(folder / "rows.csv")


def test_its_layers():
    model = KindsNet()
    convert(model, load_hardware("reram_cmo"))
    assert list(analog_layers(model)) == [
        "stem", "attention.in_proj", "attention.out_proj", "recurrent.ih_l0", "recurrent.hh_l0", "mix", "up", "linear"
    ]  # fmt: skip
