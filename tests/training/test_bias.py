"""Which columns are important, and where their weights go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwaware.errors import UserError
from hwaware.hardware import Codes, load_hardware
from hwaware.nn import convert
from hwaware.training import MappingBias
from hwaware.training.bias import (
    add_sensitivity,
    allowed_codes,
    choose_columns,
    important_columns,
    project,
    project_columns_,
)

EIGHT = Codes(8, 2)
CONFIG_3 = {0: [2]}
SLICED = load_hardware("reram_cmo", mapping="bit_sliced", scale="fixed", fraction_bits=6, kappa=None)


def weights(codes: torch.Tensor) -> list[float]:
    """With the paper's six fractional bits."""
    return (EIGHT.positions(codes) * 2).tolist()


def test_the_published_ban_moves_small_non_negative_weights():
    """Codes 128 … 191 (0 … 63/64) are banned; their nearest neighbours are 127 (-1/64) and 192 (1.0)."""
    w = torch.tensor([0.0, 0.25, 31 / 64, 32 / 64, 0.75, 63 / 64, 1.0, 1.5, -1 / 64, -2.0])
    moved = project(EIGHT.codes(w / 2), CONFIG_3, EIGHT)
    assert weights(moved) == [-1 / 64, -1 / 64, -1 / 64, 1.0, 1.0, 1.0, 1.0, 1.5, -1 / 64, -2.0]


@pytest.mark.parametrize("banned", [{}, CONFIG_3, {0: [0, 3]}, {1: [2], 3: [0, 1]}, {k: [2] for k in range(4)}])
def test_nothing_allowed_is_nearer(banned):
    codes = torch.arange(256)
    moved = project(codes, banned, EIGHT)
    digits = EIGHT.digits(codes)
    fine = [c for c in range(256) if not any(int(digits[k][c]) in states for k, states in banned.items())]
    assert allowed_codes(banned, EIGHT).tolist() == fine
    assert moved.tolist() == [min(fine, key=lambda other: (abs(other - code), other)) for code in range(256)]
    assert project(moved, banned, EIGHT).equal(moved)


def test_ten_bits_and_any_shape():
    slices = Codes(10, 2)
    codes = torch.tensor([[2**9, 0], [2**9 + 2**7, 2**10 - 1]])
    assert project(codes, CONFIG_3, slices).tolist() == [[2**9 - 1, 0], [2**9 + 2**8, 2**10 - 1]]


def test_the_most_important_columns():
    """Two channels of five weights on three rows: columns of three and of two weights."""
    sensitivity = torch.tensor([[1.0, 1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 5.0, 1.0, 0.0]])  # 3, 4; 5, 1
    assert important_columns(sensitivity, 50, 3).tolist() == [[False, True], [True, False]]
    assert important_columns(sensitivity, 51, 3).tolist() == [[True, True], [True, False]]  # rounded up
    assert important_columns(sensitivity, 0, 3).sum() == 0
    assert important_columns(sensitivity, 100, 3).all()
    assert important_columns(sensitivity.view(2, 5, 1, 1), 1, 128).tolist() == [[True], [False]]
    assert important_columns(torch.ones(4, 2), 50, 2).flatten().tolist() == [True, True, False, False]


@pytest.fixture
def layer():
    """Two channels of two weights each, one channel important."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    convert(model, SLICED)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.25, -0.3], [0.75, 0.25]]))
    return model


def test_gradients_are_summed_by_size(layer):
    sums: dict[str, torch.Tensor] = {}
    for sign in (1.0, -1.0):
        layer.zero_grad()
        (sign * layer[0].weight * torch.tensor([[1.0, 2.0], [3.0, 0.0]])).sum().backward()
        add_sensitivity(sums, layer)
    assert {name: value.tolist() for name, value in sums.items()} == {"0": [[2.0, 4.0], [6.0, 0.0]]}
    layer[0].weight.grad = torch.tensor([[torch.inf, torch.nan], [1.0, 1.0]])  # a step that fp16 training skips
    add_sensitivity(sums, layer)
    assert sums["0"].tolist() == [[2.0, 4.0], [7.0, 1.0]]


def test_only_the_important_column_moves(layer):
    sums = {"0": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}
    bias = MappingBias(percent=50)
    chosen = choose_columns(sums, bias)
    assert chosen["0"].tolist() == [[False], [True]]
    assert project_columns_(layer, chosen, bias) == 0.5
    assert layer[0].weight.tolist()[1] == [1.0, -1 / 64]
    torch.testing.assert_close(layer[0].weight[0], torch.tensor([0.25, -0.3]))
    assert layer[0].effective_weight()[1].tolist() == [1.0, -1 / 64]


def test_what_is_written_without_banned_states_keeps_its_latents(layer):
    assert project_columns_(layer, {"0": torch.ones(2, 1, dtype=torch.bool)}, MappingBias(percent=100)) == 0.75
    torch.testing.assert_close(layer[0].weight.detach(), torch.tensor([[-1 / 64, -0.3], [1.0, -1 / 64]]))


def test_shared_weights_count_once_and_frozen_ones_not():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    convert(model, SLICED)
    model(torch.ones(1, 3)).sum().backward()
    sums: dict[str, torch.Tensor] = {}
    add_sensitivity(sums, model)
    assert set(sums) == {"0"} and sums["0"].equal(model[0].weight.grad.abs())
    before = model[2].weight.clone()
    bias = MappingBias(percent=100)
    assert project_columns_(model, choose_columns(sums, bias), bias) > 0
    assert model[2].weight.equal(before) and not EIGHT.digits(EIGHT.codes(model[1].weight / 2))[0].eq(2).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"percent": -1}, r"percent=-1 must lie in \[0, 100\]"),
        ({"percent": 100.5}, r"percent=100.5 must lie"),
        ({"percent": float("nan")}, "percent=nan must lie"),
        ({"rows": 0}, "rows=0 of a crossbar"),
        ({"each": "epochs"}, "bias each 'epochs' is unknown. .*'epoch'"),
        ({"banned": {0: []}}, r"banned=.0: \[\]. names no state: ban one"),
        ({"banned": {4: [2]}}, "there is no slice 4; they are 0 .the most significant. … 3"),
        ({"banned": {-1: [2]}}, "there is no slice -1"),
        ({"banned": {0: [4]}}, "slice 0 has no state 4; they are 0 … 3"),
        ({"banned": {1: [0, 1, 2, 3]}}, "slice 1 has no state left; ban at most 3"),
    ],
)
def test_bad_input(options, reason):
    with pytest.raises(UserError, match=reason):
        MappingBias(**options).check(SLICED)


def test_devices_without_such_states():
    with pytest.raises(UserError, match="but the mapping 'differential' has none: set mapping bit_sliced"):
        MappingBias().check(load_hardware("reram_cmo"))
    with pytest.raises(UserError, match="bias needs scale fixed, not 'tensor'"):
        MappingBias().check(load_hardware("reram_cmo", mapping="bit_sliced", kappa=None))
