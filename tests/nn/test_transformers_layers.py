"""Analog forms of transformers' layers: those that its small readers do not reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwaware.chip import CHIP_SEED_START, Chip
from hwaware.hardware import load_hardware
from hwaware.nn import convert, effective_state_dict, to_digital

falcon = pytest.importorskip("transformers.models.falcon.modeling_falcon")
from transformers.pytorch_utils import Conv1D  # noqa: E402


def test_falcons_linear_with_a_bias_stays_what_it_was():
    layer = falcon.FalconLinear(6, 3)
    model, x = nn.Sequential(layer), torch.randn(4, 6)
    wanted = layer(x)
    report = convert(model, load_hardware("reram_cmo"))
    assert [(row.kind, row.shape) for row in report.layers] == [("FalconLinear", (3, 6))]
    torch.testing.assert_close(model(x), wanted)
    assert type(to_digital(model)[0]) is falcon.FalconLinear
    torch.testing.assert_close(model(x), wanted)


def test_gpt2_s_linear_has_a_row_for_each_output():
    layer = Conv1D(5, 6)
    nn.init.normal_(layer.bias)
    model, x = nn.Sequential(layer), torch.randn(4, 3, 6)
    wanted = layer(x)
    report = convert(model, load_hardware("reram_cmo", scale="channel", mapping="offset_reference"))
    assert [(row.kind, row.shape, row.n_cells) for row in report.layers] == [("Conv1D", (5, 6), 36)]
    torch.testing.assert_close(model(x), wanted)
    with Chip.program(model, CHIP_SEED_START).at(315_360_000.0):
        assert not torch.allclose(model(x), wanted, atol=1e-4)
    fresh = nn.Sequential(Conv1D(5, 6))
    fresh.load_state_dict(effective_state_dict(model))
    torch.testing.assert_close(fresh(x), wanted)
    torch.testing.assert_close(to_digital(model)(x), wanted)
    assert type(layer) is Conv1D
