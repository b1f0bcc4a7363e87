"""Costs beside accuracies: in labels, tables and figures."""

import json

import numpy as np
import pytest
from PIL import Image

from hwaware.errors import UserError
from hwaware.report.labels import line_labels
from hwaware.report.plots import plot_accuracy, plot_costs, plot_sets
from hwaware.report.tables import markdown_table
from hwaware.results.costs import by_repair


def _params(**settings):
    return json.dumps(settings, sort_keys=True)


@pytest.fixture
def compared(make_row):
    """One network by no method and four, at two ages, on three chips."""
    values = {
        ("none", "{}"): 85.0,
        ("dora", _params(rank=1, images=10)): 91.0,
        ("dora", _params(rank=2, images=10)): 90.0,
        ("vera_plus", _params(rank=1)): 90.5,
        ("gdc", "{}"): 86.0,
    }
    return [
        make_row(method=method, method_params=params, age_s=age_s, chip_seed=chip, value=value + 0.1 * chip)
        for (method, params), value in values.items()
        for age_s in (3600.0, 315_360_000.0)
        for chip in range(3)
    ]


@pytest.fixture
def costs(compared, make_cost):
    stored = {"dora": 39_600, "vera_plus": 800, "gdc": 0}
    return by_repair(
        make_cost(row, bytes_stored=stored[row.method], images_kept=10 * (row.method == "dora"))
        for row in compared
        if row.method != "none"
    )


def test_a_label_names_what_differs_only(compared):
    assert list(line_labels(compared).values()) == [
        "base", "base + dora rank=1", "base + dora rank=2", "base + vera_plus", "base + gdc",
    ]  # fmt: skip


def test_costs_stand_beside_accuracies(compared, costs):
    table = markdown_table(compared, costs=costs).splitlines()
    header = next(line for line in table if line.startswith("| network"))
    assert header.endswith("| stored | extra MACs (%) | images kept |")  # no labels, no writes: no columns
    (vera,) = [line for line in table if "vera_plus" in line]
    assert vera.endswith("| 800 B | 1.5 | 0 |")
    (none,) = [line for line in table if line.startswith("| base |")]
    assert none.endswith("|  |  |  |")


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_accuracy_against_bytes(tmp_path, compared, costs):
    before = _pixels(plot_costs(compared, costs, tmp_path / "a.png"))
    assert min(before.shape[:2]) > 600
    better = [row for row in compared if row.method != "vera_plus"]
    assert not np.array_equal(before, _pixels(plot_costs(better, costs, tmp_path / "b.png")))
    with pytest.raises(UserError, match="no repair with a cost"):
        plot_costs([row for row in compared if row.method == "none"], costs, tmp_path / "c.png")


def test_many_methods_in_one_figure(tmp_path, compared, make_row):
    rows = compared + [make_row(method=f"m{i}", age_s=age, value=80.0 + i) for i in range(8) for age in (3600.0, 1e8)]
    assert min(_pixels(plot_accuracy(rows, tmp_path / "many.png")).shape[:2]) > 600


def test_sets_against_targets(tmp_path):
    points = {"differential": [(97.0, 1, True), (99.0, 3, False)], "offset": [(97.0, 5, True)]}
    path = plot_sets(points, tmp_path / "s.png", ("a", "b"))
    assert min(_pixels(path).shape[:2]) > 500
