"""How a fitted law is compared with its readings, and what its figures show."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hwaware.commands.readings import simulate_readings
from hwaware.evaluation.device_fit import agreement, fitted_law
from hwaware.hardware.devices import load_device
from hwaware.hardware.devices.fit import Fit, read_measurements
from hwaware.hardware.devices.fit.cleaning import clean
from hwaware.report.device_fit import agreement_table

TIMES_S = (0.0, 1.0, 3600.0, 86400.0)


def _fit(folder, cells, targets, kept):
    """Of the law that the readings are drawn from; ``kept(cell, time)`` says which are there."""
    device = load_device("reram_cmo")
    header, *rows = simulate_readings(device, cells, TIMES_S, targets, seed=2).splitlines()
    rows = [row for row in rows if kept(int(row.split(",")[0]), float(row.split(",")[2]))]
    (folder / "a.csv").write_text("\n".join([header, *rows]))
    device = replace(device, measured_s=TIMES_S[1::2])
    return Fit(device, clean(read_measurements(folder / "a.csv")), (), {}, (), "log_time", ())


def test_a_state_is_the_same_at_all_ages_whatever_is_missing(tmp_path):
    rng = random.Random(0)
    fit = _fit(tmp_path, 200, [rng.uniform(10, 88) for _ in range(50)], lambda cell, time: rng.random() < 0.8)
    rows = agreement(fit)
    assert 12 <= len({one.target_us for one in rows}) <= 16
    assert len({one.time_s for one in rows if one.cells}) == 4


def test_a_lone_reading_does_not_blank_its_age(tmp_path):
    fit = _fit(tmp_path, 90, (20, 40, 60), lambda cell, time: time != 3600 or cell % 3 or cell == 0)
    by_age = agreement_table(agreement(fit))
    shown = dict(zip(by_age.columns[0].cells, by_age.columns[4].cells, strict=True))
    assert float(shown["1 h"]) > 0 and abs(float(shown["1 h"]) / float(shown["1 day"]) - 1) < 0.5
    assert shown["10 years *"] == "–"


def test_figures_show_the_law_at_the_ends_of_what_was_measured_and_beyond(tmp_path):
    fit = _fit(tmp_path, 90, (20, 40, 60), lambda cell, time: True)
    law = fitted_law(fit, agreement(fit))
    assert (law.form, law.read, law.measured_s) == ("log_time", "90 cells", (1.0, 86400.0))
    assert law.of.device == "reram_cmo" and law.of.params["measured_s"] == [1.0, 86400.0]
    assert [curve.age_s for curve in law.curves] == [*TIMES_S, 315_360_000.0]
    assert [course.extrapolated for course in law.courses] == 3 * [False, True, True]
    targets = np.array(sorted({course.target_us for course in law.courses}))
    assert targets.round().tolist() == [20, 40, 60]
    oldest = [course for course in law.courses if course.age_s[-1] == 315_360_000.0]
    mean, std = fit.device.cell_moments(torch.from_numpy(targets), 315_360_000.0)
    assert [course.shift_us[-1] for course in oldest] == pytest.approx((mean.numpy() - targets).tolist())
    assert [course.std_us[-1] for course in oldest] == pytest.approx(std.tolist())
