"""A fit's table and figures, from numbers alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from hwaware.report.device_fit import Course, FittedLaw, agreement_table, plot_by_state, plot_over_time
from hwaware.report.device_plots import LawCurve, plot_device_law
from hwaware.results.agreement import Agreement
from hwaware.results.setting import DeviceLabels

PARAMS = {"g_min_us": 10.0, "g_max_us": 60.0, "measured_s": [1.0, 3600.0]}
OF = DeviceLabels("mine", json.dumps(PARAMS), "differential")
LATER_S = 315_360_000.0


@pytest.fixture
def rows():
    """Two targets just written, after an hour, and expected in ten years."""
    measured = ((0.0, 40, 0.0, 1.0), (3600.0, 40, -1.5, 3.0), (LATER_S, 0, math.nan, math.nan))
    return [
        Agreement(age_s, target, cells, shift, -1.0, std, 2.0, 0.0, 0.1 if cells else 0.0, extrapolated=not cells)
        for age_s, cells, shift, std in measured
        for target in (20.0, 40.0)
    ]


@pytest.fixture
def law():
    def course(target, ages, extrapolated):
        return Course(target, np.array(ages), np.array([-1.0, -2.0]), np.array([1.0, 2.0]), extrapolated)

    spans, targets = (((1.0, 3600.0), False), ((3600.0, LATER_S), True)), np.array([10.0, 60.0])
    return FittedLaw(
        of=OF,
        form="log_time",
        read="80 cells",
        measured_s=(1.0, 3600.0),
        shown_s=(1.0, LATER_S),
        courses=[course(target, *span) for target in (20.0, 40.0) for span in spans],
        curves=[
            LawCurve(age_s, targets, -k * targets / 10, targets / 20) for k, age_s in enumerate((0.0, 3600.0, LATER_S))
        ],
    )


def _texts(path):
    return re.findall(r"<!-- (.*?) -->", path.with_suffix(".svg").read_text(encoding="utf-8"))


def test_the_table_sets_measured_beside_fitted(rows):
    columns = [list(column.cells) for column in agreement_table(rows).columns]
    assert list(zip(*columns, strict=True)) == [
        ("0 s", "80", "0.000", "-1.000", "1.000", "2.000", "10"),
        ("1 h", "80", "-1.500", "-1.000", "3.000", "2.000", "10"),
        ("10 years *", "–", "–", "-1.000", "–", "2.000", "–"),
    ]


def test_the_course_of_each_target(tmp_path, law, rows):
    texts = _texts(plot_over_time(law, rows, tmp_path / "time.png"))
    assert {"mine: log_time", "20 µS", "40 µS", "extrapolated", "age since programming (log scale)"} <= set(texts)
    assert {"fitted", "measured, 95 % interval over cells", "ages that were not measured"} <= set(texts)
    assert "80 cells, just written and 1 s to 1 h · drawn: all states" in texts
    assert not any("times" in text or "^" in text for text in texts)  # no powers of ten


def test_states_that_are_left_out_are_said(tmp_path, law, rows):
    few = replace(law, courses=[one for one in law.courses if one.target_us == 20.0])
    texts = _texts(plot_over_time(few, rows, tmp_path / "time.png"))
    assert any("drawn: 1 of 2 states" in text for text in texts)
    young = replace(law, curves=law.curves[:1])
    assert any("drawn: 1 of 2 measured ages" in text for text in _texts(plot_by_state(young, rows, tmp_path / "b.png")))


def test_dots_have_intervals_by_their_number_of_cells(tmp_path, law, rows, monkeypatch):
    kept = []
    monkeypatch.setattr("hwaware.report.device_fit.save_moments", lambda figure, axes, *rest, **more: kept.append(axes))

    def height(cells):
        kept.clear()
        plot_over_time(law, [replace(one, cells=cells) for one in rows if one.cells], tmp_path / "a.png")
        bars = [one for one in kept[0][0].collections if type(one).__name__ == "LineCollection"]
        low, high = bars[0].get_segments()[0][:, 1]
        return high - low

    (first,) = [one for one in rows if one.time_s > 0 and one.cells][:1]
    assert height(101) == pytest.approx(2 * 1.959964 * first.measured_std_us / 10)
    assert height(101) == pytest.approx(height(26) / 2)


def test_the_law_at_each_age(tmp_path, law, rows):
    ages = ("0 s", "1 h", "10 years (extrapolated)")
    assert {*ages, "mine: log_time"} <= set(_texts(plot_by_state(law, rows, tmp_path / "state.png")))
    texts = set(_texts(plot_device_law(law.curves, OF, [(40.0, 60.0)], tmp_path / "law.png")))
    assert {*ages, "mine, differential", "states that were not measured"} <= texts


def test_a_law_without_time_has_one_line(tmp_path, law):
    still = [replace(one, shift_us=law.curves[0].shift_us) for one in law.curves]
    texts = set(_texts(plot_device_law(still, OF, [], tmp_path / "law.png")))
    assert "at all ages" in texts and not {"0 s", "1 h"} & texts


def test_bands_are_drawn_where_they_are_known(tmp_path, law, rows, monkeypatch):
    kept = []
    monkeypatch.setattr("hwaware.report.device_fit.save_moments", lambda figure, axes, *rest, **more: kept.append(axes))
    half = (np.array([0.1, 0.2]), np.array([0.3, 0.4]))
    plot_over_time(law, rows, tmp_path / "a.png")
    plot_over_time(replace(law, courses=[replace(one, open_us=half) for one in law.courses]), rows, tmp_path / "a.png")
    without, drawn = (
        [[one for one in axis.collections if type(one).__name__.endswith("PolyCollection")] for axis in axes]
        for axes in kept
    )
    assert [len(one) for one in without] == [0, 0] and [len(one) for one in drawn] == [4, 4]
    corners = drawn[0][0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(-2.2) and corners[:, 1].max() == pytest.approx(-0.9)
    assert drawn[1][0].get_paths()[0].vertices[:, 1].max() == pytest.approx(2.4)
