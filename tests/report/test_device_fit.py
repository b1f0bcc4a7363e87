"""What a fit's tables and figures are made of."""

from __future__ import annotations

import random
from dataclasses import replace

from hwaware.commands.readings import simulate_readings
from hwaware.hardware.devices import load_device
from hwaware.hardware.devices.fit import Fit, read_measurements
from hwaware.hardware.devices.fit.cleaning import clean
from hwaware.report.device_fit import agreement, fit_tables

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
    (by_age,) = (
        table for table in fit_tables(fit, agreement(fit)) if table.title.startswith("conductance less target")
    )
    shown = dict(zip(by_age.columns[0].cells, by_age.columns[4].cells, strict=True))
    assert float(shown["1 h"]) > 0 and abs(float(shown["1 h"]) / float(shown["1 day"]) - 1) < 0.5
    assert shown["10 years *"] == "–"
