"""The distribution of accuracy over chips."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hwaware.report import distribution
from hwaware.report.distribution import plot_distribution
from hwaware.results.criteria import Criteria


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, in place of a file."""
    kept = []
    monkeypatch.setattr(distribution, "save", lambda figure, top, heading, path: kept.append(figure) or path)
    return kept


def _share_at_most(axis, label, value):
    """What a line of the figure says of an accuracy."""
    (line,) = (line for line in axis.lines if line.get_label() == label)
    x, shares = (np.asarray(one, dtype=float) for one in line.get_data())
    return shares[np.searchsorted(x, value, side="right") - 1]


def test_each_panel_is_the_empirical_distribution_of_its_age(drawn, make_rows, tmp_path):
    rows = make_rows(n_chips=30)
    plot_distribution(rows, tmp_path / "a.png")
    (figure,) = drawn
    assert [axis.texts[0].get_text() for axis in figure.axes] == ["0 s", "1 week", "10 years"]
    for axis, age_s in zip(figure.axes, (0.0, 604_800.0, 315_360_000.0), strict=True):
        for network in ("base", "finetuned", "base_uncorrected"):
            values = np.array([row.value for row in rows if (row.network, row.age_s) == (network, age_s)])
            for value in (90.731, 91.0, 91.5):
                assert _share_at_most(axis, network, value) == pytest.approx(100 * (values <= value).mean())


@pytest.mark.parametrize(("n_chips", "shown"), [(10, False), (20, True)])
def test_the_percentile_is_drawn_where_there_are_enough_chips(drawn, make_rows, tmp_path, n_chips, shown):
    plot_distribution(make_rows(n_chips=n_chips), tmp_path / "a.png")
    assert ("5th-percentile chip" in {line.get_label() for line in drawn[0].axes[0].lines}) == shown


def test_a_single_chip_has_no_distribution(make_row, tmp_path):
    assert plot_distribution([make_row(), make_row(network="finetuned")], tmp_path / "a.png") is None
    assert not list(tmp_path.iterdir())


def test_one_age_of_chips_that_are_alike(make_row, tmp_path):
    rows = [make_row(chip_seed=chip, value=91.73) for chip in range(2)]
    path = plot_distribution(rows, tmp_path / "a.png", criteria=Criteria(2.0, 50.0))
    texts = re.findall(r"<!-- (.*?) -->", path.with_suffix(".svg").read_text())
    assert {"50th-percentile chip", "good chips: at most 2 points below"} <= set(texts)
