"""What is set aside, what is kept, and where readings are cut off."""

from __future__ import annotations

import csv
import io
import random

import numpy as np
import pytest

from hwaware.commands.fit_files import fit_remarks
from hwaware.commands.readings import simulate_readings
from hwaware.errors import UserError
from hwaware.evaluation.device_fit import agreement
from hwaware.hardware.devices import load_device
from hwaware.hardware.devices.fit import estimate, fit_device, read_measurements
from hwaware.hardware.devices.fit.cleaning import clean
from hwaware.hardware.devices.fit.forms import forms
from hwaware.results.agreement import misfit

TIMES_S = (0, 1, 60, 3600, 604800)


def _changed(folder, change, cells=600, repeats=1, preset="reram_cmo"):
    """Readings of which ``change(cell, target, time, reading, value)`` gives the conductance; None leaves one out."""
    device = load_device(preset)
    targets = np.linspace(device.g_min_us, device.g_max_us, 12).tolist()
    text = simulate_readings(device, cells, TIMES_S, targets, seed=5, repeats=repeats)
    lines = ["cell,target_us,time_s,reading,conductance_us"]
    for row in csv.DictReader(io.StringIO(text)):
        cell, reading = int(row["cell"]), int(row.get("reading", 0))
        target, time, value = (float(row[name]) for name in ("target_us", "time_s", "conductance_us"))
        new = change(cell, target, time, reading, value)
        if new is not None:
            lines.append(f"{cell},{target},{time},{reading},{new:.7g}")
    (folder / "a.csv").write_text("\n".join(lines))
    return read_measurements(folder / "a.csv")


def test_cells_that_lose_their_state_for_good_are_kept(tmp_path, monkeypatch):
    """One in twenty loses half, either at the last two ages or at the last."""
    monkeypatch.setattr(estimate, "BOOTSTRAP_DRAWS", 2)
    monkeypatch.setattr(estimate, "forms", lambda cleaned: forms(cleaned)[:2])  # the others take their time

    def change(cell, target, time, reading, value):
        lost = cell % 20 == 7 and time >= (3600 if cell % 40 == 7 else 604800) and target > 30
        return value * (0.4 + 0.2 * (cell % 3) / 2) if lost else value

    fit = fit_device(_changed(tmp_path, change), "mine")
    assert len(fit.cleaned.aside) == 0 and len(fit.cleaned.departed) > 20
    assert any("at 604800 s" in note and "the cells stay there" in note for note in fit.notes)
    last = [one for one in agreement(fit) if one.time_s == 604800 and one.target_us > 70]
    measured = np.mean([one.measured_std_us for one in last])
    assert measured > 5 and np.mean([one.fitted_std_us for one in last]) > 0.6 * measured
    assert misfit(agreement(fit))[1] > 3
    assert "POOR" in fit_remarks(fit, agreement(fit))[0]


@pytest.mark.parametrize("repeats", [1, 2])
def test_strays_are_set_aside(tmp_path, repeats):
    """The instrument's own, one reading in fifty at any age, the last among them: the cell is where it was."""
    rng = random.Random(1)

    def change(cell, target, time, reading, value):
        return value * 3 if target > 20 and rng.random() < 0.02 else value

    readings = _changed(tmp_path, change, repeats=repeats)
    stray = readings.conductance_us > 2 * readings.target_us
    cleaned = clean(readings)
    assert len(cleaned.aside) == stray.sum() > 30
    assert not (cleaned.readings.conductance_us > 2 * cleaned.readings.target_us).any()
    assert cleaned.most_at_an_age(cleaned.aside)[1] == pytest.approx(0.02, abs=0.015)


def test_readings_far_above_all_states_at_the_last_age_are_set_aside(tmp_path, monkeypatch):
    """One cell in a hundred, more than rare: the cells might have gone there, but no state is that high."""
    monkeypatch.setattr(estimate, "BOOTSTRAP_DRAWS", 2)
    monkeypatch.setattr(estimate, "forms", lambda cleaned: forms(cleaned)[:1])

    def change(cell, target, time, reading, value):
        return 250.0 if cell % 100 == 50 and time == 604800 else value

    fit = fit_device(_changed(tmp_path, change), "mine")
    assert (fit.cleaned.aside.conductance_us == 250).sum() == 6 and not len(fit.cleaned.departed)
    (note,) = (note for note in fit.notes if "set aside" in note)
    assert note.startswith("at 604800 s 1 % of the readings (cells 150, 250, 350, 450, 50 and 1 more) were set aside")


def test_cells_that_all_read_the_same_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"all cells read 50 µS when just written, whatever their target"):
        clean(_changed(tmp_path, lambda cell, target, time, reading, value: 50.0))


def test_cells_that_were_never_written_are_dead(tmp_path):
    cleaned = clean(_changed(tmp_path, lambda c, g, t, r, value: 35.0 if c in (11, 23) else value))
    assert cleaned.dead == ("11", "23") and len(cleaned.aside) == 10


def test_cells_stuck_near_their_target_are_dead(tmp_path):
    """Stuck off, with a low target and a spread in proportion to it: no other state's spread excuses them."""
    cleaned = clean(_changed(tmp_path, lambda c, g, t, r, value: value, preset="charan2020"))
    kept = cleaned.readings
    assert len(cleaned.dead) > 10 and cleaned.stuck_off[0] > 10 and len(cleaned.departed) == 0
    assert not ((kept.conductance_us < 1) & (kept.target_us > 5)).any()


def test_a_stray_reading_beyond_it_leaves_a_limit_what_it_is(tmp_path):
    def change(cell, target, time, reading, value):
        return {24: 8.7, 25: 8.9, 35: 88.6}.get(cell, value) if time == 60 else value

    cleaned = clean(_changed(tmp_path, change))
    assert (cleaned.readings.conductance_us < 8.95).sum() >= 1 and cleaned.readings.conductance_us.max() > 88.5
    assert cleaned.limits_us == (9.0, pytest.approx(88.2)) and cleaned.clamp == "window"


def test_a_value_with_many_readings_beyond_is_no_limit(tmp_path):
    """Read to 0.5 µS, without a clamp."""
    cleaned = clean(_changed(tmp_path, lambda c, g, t, r, value: max(0.5, 0.5 * round(2 * value)), preset="pcm"))
    assert cleaned.limits_us[1] is None and cleaned.clamp == "zero"


def test_stuck_is_what_was_read_when_just_written(tmp_path):
    """Of the cells with the highest target one hangs at the lowest from the start; another was first read late."""

    def change(cell, target, time, reading, value):
        if cell in (23, 35):
            return None if cell == 35 and time < 60 else 9.0
        return None if cell < 12 and time == 0 else value

    cleaned = clean(_changed(tmp_path, change))
    assert cleaned.stuck_on == (0, 294) and cleaned.stuck_off == (1, 293)
    assert "35" in {cleaned.departed.cells[cell] for cell in cleaned.departed.cell}


@pytest.mark.parametrize(
    "change",
    [
        lambda cell, target, time, reading, value: 97.2 - value,  # targets swapped
        lambda cell, target, time, reading, value: 1000 / value,  # kΩ
        lambda cell, target, time, reading, value: 9.0 if cell % 12 > 3 else 88.2 if cell % 12 < 3 else value,
    ],
)
def test_readings_that_go_the_wrong_way_are_refused(tmp_path, change):
    with pytest.raises(UserError, match=r"of 600 cells read at the opposite end .* resistances, or targets swapped"):
        clean(_changed(tmp_path, change))
