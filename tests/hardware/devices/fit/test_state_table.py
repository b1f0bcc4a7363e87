"""A table of states: readings of its moments, what is fitted to them, and what is assumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwaware.cli.main import main
from hwaware.errors import UserError
from hwaware.hardware.devices import load_device
from hwaware.hardware.devices.fit import estimate, fit_device, read_measurements

HEADER = "state,mean_us,std_us,age_s\n"


def _read(tmp_path, text):
    (tmp_path / "table.csv").write_text(text)
    return read_measurements(tmp_path / "table.csv")


def _printed(device, ages_s, n=8):
    """A table as a paper prints it, of a known law."""
    lines = ["Level,Target (µS),Mean (µS),SD (µS),Age (s),N"]
    for place, target in enumerate(np.linspace(device.g_min_us, device.g_max_us, n)):
        for age_s in ages_s:
            mean, std = device.free_moments(torch.tensor([target]), age_s, read_noise=False)
            lines.append(f"L{place},{target:.7g},{mean.item():.6g},{std.item():.6g},{age_s:g},100")
    return "\n".join(lines) + "\n"


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(estimate, "BOOTSTRAP_DRAWS", 5)


def test_readings_have_the_moments_of_the_table(tmp_path):
    found = _read(tmp_path, HEADER + "low,10,0.5,0\nlow,9,1,3600\nhigh,50,2,0\n")
    assert found.n_states == 3 and found.window_us == (10, 50) and len(found) == 300 and found.n_cells == 200
    for target, age_s, mean, std in ((10, 0, 10, 0.5), (10, 3600, 9, 1), (50, 0, 50, 2)):
        values = found.conductance_us[(found.target_us == target) & (found.time_s == age_s)]
        assert (values.mean(), values.std()) == pytest.approx((mean, std))
    assert any("Ages are missing for state high" in one for one in found.notes)
    assert any("100 cells are assumed for each row without a count" in one for one in found.notes)


def test_a_law_is_found_again_in_its_own_table(tmp_path):
    true = load_device("reram_cmo")
    fit = fit_device(_read(tmp_path, _printed(true, (0, 1, 3600, 86400))), "own")
    assert fit.chosen == "log_time" and fit.device.measured_s == (1, 86400) and not fit.notes
    assert fit.device.drift_mean_slope_us == pytest.approx(true.drift_mean_slope_us, rel=1e-3)
    assert fit.device.drift_std_slope_us == pytest.approx(true.drift_std_slope_us, rel=0.02)
    assert fit.device.programming_std_slope == pytest.approx(true.programming_std_slope, rel=0.02)
    assert {one.name for one in fit.estimates} & {"stuck_on", "stuck_off"} == set()


@pytest.mark.parametrize(
    ("text", "measured_s", "said", "drifts"),
    [
        ("level,mean_us,std_us\n0,5,0.5\n1,20,1\n2,40,1.5\n", (0, 0), "no drift)", False),
        ("state,age,mean_us,std_us\n0,1 h,5,0.5\n1,1 h,20,1\n2,1 h,40,1.5\n", (3600, 3600), "programming_error", False),
        (HEADER + "a,10,1,0\nb,40,1,0\na,8,2,60\nb,30,2,60\n", (60, 60), "no drift after the last age", True),
    ],
    ids=["just written", "one age", "one age and age 0"],
)
def test_what_a_small_table_tells_is_fitted_and_the_rest_said(tmp_path, capsys, text, measured_s, said, drifts):
    (tmp_path / "table.csv").write_text(text)
    assert main(["device", "fit", str(tmp_path / "table.csv"), "--out", str(tmp_path / "own.yaml")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Not measured but assumed: kappa" in printed and said in printed
    assert "p(x) = Σ p[i]·x^i" in printed  # not taken for markup
    device = load_device(str(tmp_path / "own.yaml"))
    assert set(device.assumed or ()) >= {"clamp", "stuck_on", "stuck_off", "read_std_of_x", "drift_mean_slope_of_x"}
    assert ("drift_mean_offset_of_x" in device.assumed) == (measured_s == (0, 0))
    assert device.measured_s == measured_s and device.extrapolates(315360000.0)
    highest = torch.tensor([40.0], dtype=torch.float64)
    mean, std = device.cell_moments(highest, 315360000.0)
    assert (mean.item(), std.item()) == pytest.approx((30, 2) if drifts else (40, 1.5), rel=0.05)
    header = (tmp_path / "own.yaml").read_text()
    assert said in header and "The clamp is 'zero': assumed" in header
    with open(tmp_path / "own_states.csv") as file:
        ages = {float(line.split(",")[0]) for line in file.readlines()[1:] if line.rstrip().endswith(",0")}
    assert ages == ({0, *measured_s} if 0 in measured_s or drifts else set(measured_s))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mean_us,std_us,age_s\n1,1,0\n", "lacks the column state .or target_us.; it has: mean_us, std_us, age_s"),
        ("state,mean,std_us,age_s\n", "column 'mean' does not say a known unit: call it mean_us"),
        ("state,mean_kohm,std_kohm,age_s\n", "'mean_kohm' of '.*' is a resistance: means and spreads"),
        ("state,mean_us,std_us,sigma_us\n", "two columns of std: 'std_us' and 'sigma_us'"),
        (HEADER, "has no state"),
        (HEADER + "a,10,x,0\n", "line 2: std 'x' must be a number, 0 or more"),
        (HEADER + "a,0,1,0\n", "line 2: mean '0' must be a number, above 0"),
        (HEADER + "a,1,1,0\nb,2,1,0\na,1,1,0.0\n", "a duplicate state in lines 2 and 4: a at 0 s"),
        ("state,mean_us,std_us,age\na,1,1,soon\n", "line 2: 'soon' is not an age"),
        ("state,mean_us,std_us,n\na,1,1,many\n", "line 2: n 'many' must be a count of cells, 2 or more"),
        ("state,target_us,mean_us,std_us,age_s\na,1,1,1,0\na,2,1,1,5\n", "state a has the targets 1 and 2 µS"),
    ],
)
def test_bad_tables(tmp_path, text, reason):
    with pytest.raises(UserError, match=reason):
        _read(tmp_path, text)


def test_a_start_is_for_dates_and_times(tmp_path):
    (tmp_path / "table.csv").write_text(HEADER + "a,1,1,0\n")
    with pytest.raises(UserError, match="start '2026-01-31' is for readings at dates and times"):
        read_measurements(tmp_path / "table.csv", "2026-01-31")


def test_all_units_that_are_missing_at_once(tmp_path):
    (tmp_path / "a.csv").write_text("mean,std,age\n1,1,0\n")
    with pytest.raises(UserError) as caught:
        read_measurements(tmp_path / "a.csv")
    assert all(one in str(caught.value) for one in ("mean_us", "std_us", "lacks the column state"))
