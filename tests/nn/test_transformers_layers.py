"""Analog forms of transformers' layers: those that its small readers do not reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwaware.hardware import load_hardware
from hwaware.nn import convert, to_digital

falcon = pytest.importorskip("transformers.models.falcon.modeling_falcon")


def test_falcons_linear_with_a_bias_stays_what_it_was():
    layer = falcon.FalconLinear(6, 3)
    model, x = nn.Sequential(layer), torch.randn(4, 6)
    wanted = layer(x)
    report = convert(model, load_hardware("reram_cmo"))
    assert [(row.kind, row.shape) for row in report.layers] == [("FalconLinear", (3, 6))]
    torch.testing.assert_close(model(x), wanted)
    assert type(to_digital(model)[0]) is falcon.FalconLinear
    torch.testing.assert_close(model(x), wanted)
