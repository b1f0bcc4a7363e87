"""Figures of layers and the cells that they need."""

from __future__ import annotations

import math
import re

import pytest

from hwaware.report.plan_plots import plot_plan, plot_sensitivity
from hwaware.results.plan import PlannedLayer, PlannedPoint
from hwaware.results.sensitivity import LayerSensitivity

TITLE = ("net, 10 years, one layer at a time", "reram_cmo, differential")


def _texts(path):
    return re.findall(r"<!-- (.*?) -->", path.with_suffix(".svg").read_text(encoding="utf-8"))


def _layer(number, bias, noise, std=0.0):
    return LayerSensitivity(number + 1, f"layer{number}", 100, 200, 3e8, 4, 0.1, bias, noise, std, 10.0)


def test_layers_with_their_weights_and_what_bars_are_of(tmp_path):
    texts = _texts(plot_sensitivity([_layer(0, 0.1, 2.0, 0.5), _layer(1, 0.0, 0.1)], tmp_path / "a.png", TITLE))
    assert {"layer0", "layer1", "100", "weights", "one layer in cells, ± 1 std over chips"} <= set(texts)
    alone = _texts(plot_sensitivity([_layer(0, 0.1, 2.0)], tmp_path / "b.png", TITLE))
    assert "one layer in cells" in alone


def test_no_damage_at_all_is_said(tmp_path):
    texts = _texts(plot_sensitivity([_layer(0, 0.0, 0.0)], tmp_path / "a.png", TITLE))
    assert "no layer does any damage" in texts


@pytest.mark.parametrize("noise", [math.nan, math.inf])
def test_damage_that_is_no_number_is_named_and_hides_no_other(tmp_path, noise):
    texts = _texts(plot_sensitivity([_layer(0, 0.1, noise), _layer(1, 0.1, 1.0)], tmp_path / "a.png", TITLE))
    assert _texts(plot_sensitivity([_layer(0, 0.1, noise)], tmp_path / "b.png", TITLE))
    assert "100: damage unknown" in texts and "100" in texts and "no layer does any damage" not in texts


def test_many_layers_are_counted(tmp_path):
    found = [_layer(number, 0.1, 1 / (number + 1)) for number in range(30)]
    assert any("25 of 30 layers" in text for text in _texts(plot_sensitivity(found, tmp_path / "a.png", TITLE)))


def test_the_plan_among_what_was_weighed(tmp_path):
    layers = [PlannedLayer(f"layer{number}", 100, parallel, 200, 1.0, 0.1) for number, parallel in enumerate((4, 1, 0))]
    front = [PlannedPoint(ratio, 0.0, 1.0, 80.0, 79.0, 1.0, math.nan, 90.0, ratio == 2.0) for ratio in (1.0, 2.0)]
    texts = set(_texts(plot_plan(layers, front, tmp_path / "a.png", TITLE)))
    assert {"exact network", "predicted", "the plan", "measured, ± 1 std over validation chips", "digital"} <= texts
