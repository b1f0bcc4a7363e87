"""Cells where they take most damage away."""

from __future__ import annotations

import itertools

import pytest

from hwaware.errors import UserError
from hwaware.evaluation.planning import (
    DIGITAL,
    Candidate,
    Cells,
    allocate,
    allocation,
    choices,
    expected_points,
    keep_digital,
)
from hwaware.results.sensitivity import LayerSensitivity


def _candidate(name, weights, noise, bias=0.0, most=64, cells=2):
    found = LayerSensitivity(1, name, weights, cells * weights, 1.0, 16, 0.1, bias, noise, 0.0, 0.0)
    return Candidate(found, lambda parallel: 1 / parallel, choices("mean", most))


def _layer(*args, **settings):
    return [_candidate(*args, **settings)]


def _parallel(shared):
    return {name: one.parallel for name, one in shared.cells.items()}


LAYERS = {
    "small": _layer("small", 10, 5.0),
    "middle": _layer("middle", 100, 1.0),
    "large": _layer("large", 1000, 0.5),
}


@pytest.mark.parametrize("ratio", [1.0, 1.1, 1.25, 2.0])
def test_no_other_share_of_the_same_cells_does_less_damage(ratio):
    """Against every share of up to 40 cells, but for what one step of a layer more would take."""
    shared = allocate(LAYERS, ratio)
    assert shared.cells_ratio <= ratio * (1 + 1e-9)
    best = min(
        allocation(LAYERS, dict(zip(LAYERS, map(Cells, numbers), strict=True))).nats
        for numbers in itertools.product(range(1, 65), range(1, 33), range(1, 4))
        if sum(k * one[0].found.cells for k, one in zip(numbers, LAYERS.values(), strict=True)) <= ratio * 2220
    )
    assert shared.nats <= best * 1.02


def test_the_square_root_rule():
    """Shares follow sqrt(damage / weights), as long as cells are many."""
    parallel = _parallel(allocate(LAYERS, 20.0))
    expected = {name: (one[0].found.noise_nats / one[0].found.weights) ** 0.5 for name, one in LAYERS.items()}
    assert parallel["middle"] / parallel["large"] == pytest.approx(expected["middle"] / expected["large"], rel=0.1)
    assert parallel["small"] == 64  # as many as there may be


def test_bias_gets_no_cells():
    layers = {"biased": _layer("biased", 10, 0.0, bias=9.0), "noisy": _layer("noisy", 10, 0.1)}
    assert _parallel(allocate(layers, 2.0)) == {"biased": 1, "noisy": 3}


def test_each_layer_gets_the_encoding_that_does_least_damage_with_its_cells():
    """What is better with few cells may be worse with many: less spread against less bias."""
    biased, noisy = _candidate("one", 10, 1.0, bias=0.1), _candidate("one", 10, 2.0)
    for ratio, expected in ((1.0, Cells(1, 0)), (64.0, Cells(64, 1))):
        shared = allocate({"one": [biased, noisy]}, ratio)
        assert shared.cells["one"] == expected and shared.cells_ratio == ratio
    for ratio in range(1, 64):
        both = allocate({"one": [biased, noisy]}, ratio).nats
        assert both <= min(allocate({"one": [single]}, ratio).nats for single in (biased, noisy)) * 1.05


def test_an_encoding_of_fewer_cells_leaves_them_to_other_layers():
    single = _candidate("one", 100, 1.0, cells=1)
    layers = {"one": [_candidate("one", 100, 0.9), single], "other": _layer("other", 100, 9.0)}
    shared = allocate(layers, 1.0)
    assert shared.cells == {"one": Cells(2, 1), "other": Cells(1)} and shared.cells_ratio == 1
    assert allocate(layers, 2.0).cells["other"].parallel == 3
    with pytest.raises(UserError, match=r"give 0.75 or more"):
        allocate(layers, 0.7)


def test_the_worst_for_their_weights_stay_digital():
    assert keep_digital(LAYERS, 1.0) == {"small"}
    assert keep_digital(LAYERS, 0.5) == set()
    assert keep_digital(LAYERS, 10.0) == {"small", "middle"}
    assert keep_digital(LAYERS, 100.0) == {"small", "middle"}  # one is left for the cells
    shared = allocate(LAYERS, 1.0, {"small"})
    assert shared.cells["small"] == DIGITAL and shared.digital_percent == pytest.approx(100 * 10 / 1110)


def test_of_a_median_odd_numbers_are_worth_having():
    assert choices("median", 8) == [1, 3, 5, 7, 8]
    assert choices("median", 2) == [1]
    # a step over one that helps little is taken as a whole
    steps = {1: 1.0, 3: 0.99, 5: 0.1}
    layer = [Candidate(LAYERS["small"][0].found, lambda parallel: steps[parallel], [1, 3, 5])]
    assert allocate({"one": layer, "other": _layer("other", 1000, 1e-6)}, 1.05).cells["one"].parallel == 5


def test_too_small_a_budget_names_what_is_needed():
    with pytest.raises(UserError, match=r"cells=0.9 is too few even without parallel cells: give 1 or more"):
        allocate(LAYERS, 0.9)
    with pytest.raises(UserError, match=r"give 0.991 or more"):
        allocate(LAYERS, 0.9, {"small"})


def test_predictions_lie_between_what_was_measured():
    curve = [(0.2, 4.0), (0.1, 1.0)]
    assert expected_points(curve, 0.05) == pytest.approx(0.5)
    assert expected_points(curve, 0.15) == pytest.approx(2.5)
    assert expected_points(curve, 9.0) == 4.0
