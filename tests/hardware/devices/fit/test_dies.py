"""Spreads between dies, from simulated readings of dies whose spreads are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hwaware.commands.readings import simulate_readings
from hwaware.errors import UserError
from hwaware.hardware.devices import load_device
from hwaware.hardware.devices.fit import estimate, fit_device, read_measurements
from hwaware.hardware.devices.fit.cleaning import clean
from hwaware.hardware.devices.fit.dies import between_dies

TIMES_S = (0.0, 1.0, 60.0, 3600.0, 604800.0)


def _readings(folder, name, spread, dies=20, cells=120, seed=0, repeats=1, **constants):
    device = load_device(name, die_spread=spread, **constants)
    targets = np.linspace(max(device.g_min_us, 1.25), device.g_max_us, 12).tolist()
    text = simulate_readings(device, dies * cells, TIMES_S, targets, seed, repeats, dies)
    (folder / "readings.csv").write_text(text)
    return read_measurements(folder / "readings.csv")


def _found(folder, name, spread, **settings):
    readings = _readings(folder, name, spread, **settings)
    return {one.constant: one for one in between_dies(clean(readings), load_device(name))}


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("reram_cmo", {"drift_mean": 0.2, "drift_std": 0.2, "programming": 0.2}),
        ("pcm", {"drift_mean": 0.1, "programming": 0.1}),
        ("reram_powerlaw", {"drift_std": 0.2}),
    ],
)
def test_spreads_are_those_that_dies_were_drawn_with(tmp_path, name, spread):
    constants = {"programming_std_slope": 0.01} if name == "reram_powerlaw" else {}
    found = _found(tmp_path, name, spread, seed=100, **constants)
    for constant, share in spread.items():
        one = found[constant]
        assert 0 < one.low < share < one.high and one.share == pytest.approx(share, rel=0.35)


def test_dies_that_do_not_differ(tmp_path):
    for one in _found(tmp_path, "reram_cmo", None, seed=200, repeats=2).values():
        assert one.low == 0 and one.high < 0.15


def test_what_readings_do_not_tell(tmp_path):
    # Such a law has no mean change.
    assert math.isnan(_found(tmp_path, "reram_wan2022", None)["drift_mean"].share)
    assert not _found(tmp_path, "reram_cmo", None, dies=2)
    assert not _found(tmp_path, "reram_cmo", None, dies=10, cells=8)


def test_a_device_file_has_what_is_sure_and_the_notes_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "BOOTSTRAP_DRAWS", 2)
    fit = fit_device(_readings(tmp_path, "reram_cmo", {"drift_mean": 0.4}, dies=12, cells=60, seed=300), "mine")
    assert fit.chosen == "log_time"
    spread = fit.device.die_spread
    assert 0.15 < spread.drift_mean < 0.5 and spread.programming == spread.window == 0
    estimates = {one.name: one for one in fit.estimates}
    assert estimates["die_spread.drift_mean"].low > 0 == estimates["die_spread.programming"].low
    said = " ".join(fit.notes)
    assert "die_spread.programming is left out: variation between cells explains it (at most 0." in said
    assert "a die's window and temperature are not estimated" in said
    assert "constants are those of an average die" in said
    # The spread between cells is that of one die, not of all dies together.
    true = load_device("reram_cmo")
    assert fit.device.drift_std_slope_us < 1.12 * true.drift_std_slope_us


def test_too_few_dies_are_said():
    spread, (note,) = estimate._die_spread((), 2)
    assert spread is None and "not estimated: it takes 3 dies with 10 cells" in note


def test_cells_of_different_dies_may_have_one_name(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Die,cell,target_us,time_s,conductance_us\nA,1,10,0,10\nB,1,20,0,20\nA,2,30,0,30\nA,1,10,5,9\n"
    )
    found = read_measurements(tmp_path / "a.csv")
    assert found.cells == ("A/1", "A/2", "B/1") and found.dies == ("A", "B") and found.die.tolist() == [0, 0, 1]
    assert found.take(found.time_s == 0).die.tolist() == [0, 0, 1] and not found.notes
    (tmp_path / "b.csv").write_text("die,cell,target_us,time_s,conductance_us\nA,1,10,0,10\n,1,20,0,20\n")
    with pytest.raises(UserError, match="line 3: the die is empty; name one in each row"):
        read_measurements(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("cell,target_us,time_s,conductance_us\nA/1,10,0,10\n")
    assert read_measurements(tmp_path / "c.csv").die is None


def test_simulated_dies_have_all_targets_and_their_own_draws():
    device = load_device("reram_cmo", die_spread={"drift_mean": 0.3, "chips_per_die": 3})
    lines = [line.split(",") for line in simulate_readings(device, 8, (0.0, 3600.0), (20, 60), 6, dies=2).splitlines()]
    assert lines[0] == ["die", "cell", "target_us", "time_s", "conductance_us"]
    first, second = ([line[2] for line in lines[1:] if line[0] == die and line[3] == "0"] for die in "01")
    assert first == second == ["20", "60"] * 2
    # The next die is another one, not its next chip.
    other = simulate_readings(device, 4, (0.0, 3600.0), (20, 60), 9).splitlines()[1:]
    assert other == [",".join(line[1:]) for line in lines[1:] if line[0] == "1"]
    with pytest.raises(UserError, match="9 dies must be at least 1, and at most the 8 cells"):
        simulate_readings(device, 8, (0.0,), (20, 60), 6, dies=9)
