"""hwaware device simulate and device fit, and what takes the device file that they end in."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import yaml
from PIL import Image

from hwaware.cli.main import main
from hwaware.hardware.devices import device_file, load_device
from hwaware.hardware.devices.fit import estimate
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, pretrained_weights, run

pytestmark = pytest.mark.rendered

SIMULATE = ["device", "simulate", "reram_cmo", "--cells", "120", "--times", "0", "1", "3600", "86400", "--seed", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "BOOTSTRAP_DRAWS", 10)
        assert main([*SIMULATE, "--targets", "20", "40", "60", "--out", str(folder / "readings.csv")]) == 0
        command = ["device", "fit", str(folder / "readings.csv"), "--out", str(folder / "own" / "mine.yaml")]
        assert main([*command, "--name", "our_reram"]) == 0
    return folder


def test_simulated_readings_are_those_of_a_chip(folder, tmp_path):
    with open(folder / "readings.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["cell", "target_us", "time_s", "conductance_us"] and len(rows) == 120 * 4
    assert [row["target_us"] for row in rows[:4]] == ["20", "40", "60", "20"]
    again = [*SIMULATE, "--targets", "20", "40", "60", "--out", str(tmp_path / "again.csv")]
    assert main(again) == 0
    assert (tmp_path / "again.csv").read_text() == (folder / "readings.csv").read_text()
    assert main([*again, "--repeats", "2"]) == 0
    with open(tmp_path / "again.csv") as file:
        repeated = [row for row in csv.DictReader(file) if row["cell"] == "5"]
    assert [row["reading"] for row in repeated] == ["0", "1"] * 4
    new, later = repeated[:2], repeated[2:4]
    assert new[0]["conductance_us"] == new[1]["conductance_us"]  # no read noise at age 0
    assert later[0]["conductance_us"] != later[1]["conductance_us"]


def test_all_files_are_there_and_nothing_else(folder):
    names = ["mine.yaml", "mine_parameters.csv", "mine_states.csv"]
    names += [f"mine_{figure}.{kind}" for figure in ("state", "time") for kind in ("png", "svg")]
    assert sorted(file.name for file in (folder / "own").iterdir()) == sorted(names)
    for figure in ("state", "time"):
        with Image.open(folder / "own" / f"mine_{figure}.png") as image:
            assert image.format == "PNG"
        text = (folder / "own" / f"mine_{figure}.svg").read_text()
        assert "extrapolated" in text and "95 % interval of the fit" in text


def test_the_device_file_says_what_it_rests_on(folder):
    text = (folder / "own" / "mine.yaml").read_text()
    comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
    for part in (
        "480 readings of 120 cells in readings.csv",
        "ages 1 to 86400 s (1 s to 1 day) and age 0, targets 20 to 60 µS",
        "All beyond is extrapolated",
        "log_time: ",
        "power_law_decay: not fitted: it needs 4 targets; there are 3",
        "Read noise can't be separated from drift",
        "Not measured but assumed: kappa (κ of the I-V curve), g_min_us, g_max_us (the window: lowest and",
        "Formula (g in µS, t in s): σ_prog = programming_std_slope·g + programming_std_offset_us; mean drift = ",
        "No cell was read twice at time_s=0",
        "The clamp is '",
        "10 fits to cells drawn with replacement",
    ):
        assert part in comments, part
    assert yaml.safe_load(text)["name"] == "our_reram"
    assert load_device(str(folder / "own" / "mine.yaml")).measured_s == (1.0, 86400.0)


def test_extrapolated_states_are_marked_in_the_table(folder):
    with open(folder / "own" / "mine_states.csv") as file:
        rows = list(csv.DictReader(file))
    marked = {row["extrapolated"] == "1": row for row in rows}
    assert marked[True]["measured_std_us"] == "" and marked[True]["fitted_std_us"]
    assert {float(row["time_s"]) > 86400 for row in rows if row["extrapolated"] == "1"} == {True}
    assert {float(row["time_s"]) > 86400 for row in rows if row["extrapolated"] == "0"} == {False}


def test_show_and_plot_mark_what_was_not_measured(folder, tmp_path, capsys):
    assert main(["device", "show", str(folder / "own" / "mine.yaml")]) == 0
    printed, table = capsys.readouterr()
    assert "measured_s:\n- 1.0\n- 86400.0\n" in printed
    assert "* beyond what was measured: extrapolated" in table
    marked = [line for line in table.splitlines() if "years" in line or "week" in line or "day" in line]
    assert ["*" in line for line in marked] == [False, True, True]
    assert main(["device", "plot", str(folder / "own" / "mine.yaml"), "--out", str(tmp_path / "a.png")]) == 0
    assert "10 years (extrapolated)" in (tmp_path / "a.svg").read_text()


@pytest.mark.slow
def test_chips_of_the_fitted_device_are_aged(folder, tmp_path, capsys):
    command = ["drift", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.default_root_dir"]
    device = ["--model.hardware.device.name", folder / "own" / "mine.yaml", "--evaluation.ages_s", "[0,10y]"]
    run(*command, tmp_path, *device, "--evaluation.n_chips", 1)
    (file,) = tmp_path.rglob("rows.csv")
    rows = read_rows(file)
    assert {row.device for row in rows} == {"our_reram"} and {row.age_s for row in rows} == {0.0, 315_360_000.0}
    assert json.loads(rows[0].device_params)["measured_s"] == [1.0, 86400.0]
    assert not {"bootstrap", "drawn_constants"} & set(json.loads(rows[0].device_params))
    said = "our_reram: Not measured but assumed: kappa (κ of the I-V curve), g_min_us, g_max_us (the window"
    assert said in capsys.readouterr().out and said in file.with_name("report.html").read_text()
    # The same chips, each with constants of its own: another accuracy when aged, the same when just written.
    run(*command, tmp_path / "drawn", *device, "--evaluation.n_chips", 3, "--evaluation.draw_constants", "true")
    assert "constants drawn for each chip" in " ".join(capsys.readouterr().out.split())
    (file,) = (tmp_path / "drawn").rglob("rows.csv")
    drawn = read_rows(file)
    assert all(json.loads(row.device_params)["drawn_constants"] is True for row in drawn)
    first = [row for row in drawn if row.chip_seed == rows[0].chip_seed]
    assert [row.value for row in first if row.age_s == 0] == [row.value for row in rows if row.age_s == 0]
    assert [row.value for row in first if row.age_s] != [row.value for row in rows if row.age_s]


def test_nothing_to_draw_is_refused(tmp_path, capsys):
    command = ["drift", "--config", FINETUNE, "--trainer.default_root_dir", str(tmp_path)]
    assert main([*command, "--evaluation.draw_constants", "true", "--model.pretrained", "false"]) == 2
    err = capsys.readouterr().err
    assert "evaluation.draw_constants: device 'reram_cmo' does not state the error of its constants" in err
    assert not list(tmp_path.iterdir())


def test_drawn_fits_are_those_of_the_intervals(folder):
    """The file's draws have the spread that the table's intervals are made of."""
    bootstrap = load_device(str(folder / "own" / "mine.yaml")).bootstrap
    assert len(bootstrap.values) == 10
    drawn = dict(zip(bootstrap.names, zip(*bootstrap.values, strict=True), strict=True))
    with open(folder / "own" / "mine_parameters.csv") as file:
        table = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: row["unit"] for name, row in table.items()} == {
        **{"programming_std_offset_us": "µS", "programming_std_slope": "1", "drift_mean_slope_us": "µS per ln s"},
        **{"drift_std_offset_us": "µS", "drift_std_slope_us": "µS per ln s", "stuck_on": "1", "stuck_off": "1"},
    }
    for name in ("drift_mean_slope_us", "drift_std_offset_us"):
        half = (float(table[name]["high"]) - float(table[name]["low"])) / 2
        assert half == pytest.approx(1.959964 * np.std(drawn[name], ddof=1), rel=1e-4)


def test_terminal(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(estimate, "BOOTSTRAP_DRAWS", 3)
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["device", "fit", str(folder / "readings.csv"), "--out", str(tmp_path / "a.yaml")]) == 0
    printed = capsys.readouterr().out
    for part in (
        "(chosen)",
        "95 % interval",
        "drift_mean_slope_us",
        "10 years *",
        "std, measured",
        "a_time.png",
        "µS per ln s",
        "√ln(",
    ):
        assert part in printed, part


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fit"], "the following arguments are required: csv, --out"),
        (["fit", "none.csv", "--out", "a.yaml"], "there are no measurements 'none.csv'"),
        (["fit", "/dev/zero", "--out", "a.yaml"], "measurements '/dev/zero' is not a regular file"),
        (["fit", "none.csv", "--out", "a.yml"], "--out 'a.yml' must end in .yaml"),
        (["simulate", "reram_cm", "--out", "a.csv"], "Did you mean 'reram_cmo'?"),
        (
            ["simulate", "pcm", "--out", "a.csv", "--targets", "40"],
            "target 40 µS is outside the window of 'pcm', 0 to 25",
        ),
        (
            ["simulate", "reram_cmo", "--out", "a.csv", "--times", "0.5"],
            "below what the law of device 'reram_cmo' covers",
        ),
        (["simulate", "pcm", "--out", "a.csv", "--times", "1", "1"], "must be given, and differ"),
        (["simulate", "pcm", "--out", "a.csv", "--cells", "10000000000"], "at most 10,000,000 readings are written"),
        (["simulate", "pcm", "--out", "a.csv", "--cells", "0"], "at least 1 of each"),
    ],
)
def test_bad_input_leaves_nothing(arguments, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["device", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "reason"), [("a_states.csv", "would overwrite the readings"), ("b.csv", "a folder")])
def test_neither_readings_nor_folders_are_overwritten(name, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*SIMULATE, "--out", name]) == 0
    if name == "b.csv":
        (tmp_path / "a_state.svg").mkdir()
    before, there = (tmp_path / name).read_text(), sorted(tmp_path.iterdir())
    assert main(["device", "fit", name, "--out", "a.yaml"]) == 2
    assert reason in capsys.readouterr().err
    assert (tmp_path / name).read_text() == before and sorted(tmp_path.iterdir()) == there


def test_a_folder_is_refused_before_readings_are_simulated(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("hwaware.commands.readings.simulate_readings", None)
    assert main([*SIMULATE, "--out", str(tmp_path)]) == 2
    assert f"'{tmp_path}' can't be written: it is a folder" in capsys.readouterr().err


def test_too_little_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["device", "simulate", "pcm", "--out", "a.csv", "--cells", "8"]) == 0
    assert main(["device", "fit", "a.csv", "--out", "a.yaml"]) == 2
    assert "the programming error is not identifiable" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_targets_of_a_window_of_any_width(tmp_path):
    """1.38 + (188.97 - 1.38) is an ulp above 188.97; and 88.2 is what is read of 88.199997."""
    text = device_file(load_device("reram_cmo", g_min_us=1.38, g_max_us=188.97))
    (tmp_path / "wide.yaml").write_text(text)
    assert main(["device", "simulate", str(tmp_path / "wide.yaml"), "--out", str(tmp_path / "a.csv")]) == 0
    arguments = ["--targets", "88.2", "--out", str(tmp_path / "b.csv"), "--cells", "2"]
    assert main(["device", "simulate", "reram_cmo", *arguments]) == 0
    assert "0,88.2,0," in (tmp_path / "b.csv").read_text()
