"""hwaware device list, show, plot."""

from __future__ import annotations

import pytest
import yaml
from PIL import Image

from hwaware.cli.main import main
from hwaware.hardware.devices import device_names, load_device

pytestmark = pytest.mark.rendered

OWN = """\
law: mirrored_power_law
source: measured here
g_min_us: 2
g_max_us: 50
exponent: 0.02
"""


def test_list_names_every_preset_with_its_source(capsys):
    assert main(["device", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in device_names()) and "2502.04524" in printed


@pytest.mark.parametrize("name", device_names())
def test_show_gives_constants_that_read_back(name, capsys, tmp_path):
    assert main(["device", "show", name]) == 0
    text, table = capsys.readouterr()  # redirected, it is a device file
    assert f"{name}: conductance (µS) of a cell by its target" in table and "10 years" in table and " ± " in table
    (tmp_path / "copy.yaml").write_text(yaml.safe_dump({**yaml.safe_load(text), "name": name}))
    assert load_device(str(tmp_path / "copy.yaml")) == load_device(name)


def test_show_names_levels_and_temperature_where_they_are_set(capsys, tmp_path):
    hot = "temperature_c: 85\nactivation_energy_ev: 0.6\nencoding: {format: {levels: 15}}\n"
    (tmp_path / "mine.yaml").write_text(OWN + hot)
    assert main(["device", "show", str(tmp_path / "mine.yaml")]) == 0
    hot, aged_hot = capsys.readouterr()
    assert all(line in hot for line in ("levels: 15\n", "temperature_c: 85.0\n", "activation_energy_ev: 0.6\n"))
    (tmp_path / "mine.yaml").write_text(OWN)
    assert main(["device", "show", str(tmp_path / "mine.yaml")]) == 0
    cold, aged = capsys.readouterr()
    assert "levels" not in cold and "temperature_c" not in cold
    assert aged_hot.splitlines()[-2] != aged.splitlines()[-2]  # ten years of drift are more at 85 °C


def test_show_ranks_the_states_of_slices(capsys, tmp_path):
    assert main(["device", "show", "diware2023"]) == 0
    lines = capsys.readouterr().err.splitlines()
    ranked = [line.split("│")[1:3] for line in lines if " ± " in line and ": " in line and "│" in line]
    assert [cell.split(":")[0].strip() for _, cell in ranked] == ["00", "01", "11", "10"]
    (tmp_path / "mine.yaml").write_text(OWN + "encoding: {mapping: bit_sliced, kappa: null, format: {slice_bits: 1}}\n")
    assert main(["device", "show", str(tmp_path / "mine.yaml")]) == 0
    text, tables = capsys.readouterr()
    assert "slice_bits: 1\n" in text and "states of a 1-bit slice" in " ".join(tables.split())
    assert main(["device", "show", "reram_cmo"]) == 0
    assert "slice" not in capsys.readouterr().err


def test_plot_of_an_own_device(capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text(OWN)
    assert main(["device", "plot", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "a.png")]) == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"


def test_a_plot_goes_where_runs_are(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["device", "plot", "pcm"]) == 0
    assert capsys.readouterr().out == "runs/devices/pcm.png\n"
    assert [one.name for one in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "device: no command ''"),
        (["lst"], "Did you mean 'list'?"),
        (["show"], "device: the following arguments are required: name"),
        (["show", "reram_cm"], "Did you mean 'reram_cmo'?"),
        (["plot", "pcm", "--out", "a.jpg"], "must end in .png"),
    ],
)
def test_bad_input(arguments, reason, capsys):
    assert main(["device", *arguments]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("times_s: 5", "times_s of device 'mine': 5 is not a list of numbers"),
        ("times_s: [1, 1]", "must be above 0 and ascend"),
        ("times_s: [1, .nan]", "is not a finite number"),
        ("std_us: [[1, 2]]", "times_s=[1.0, 100.0] of device 'mine' has 2 times and std_us has 1 lists"),
        ("g_max_us: [1, 2]", "g_max_us of device 'mine': [1, 2] is not a number"),
    ],
)
def test_wrong_lists_in_a_device_file(tmp_path, capsys, change, reason):
    good = {"law": "measured_relaxation", "g_min_us": 0, "g_max_us": 40, "fitted_g_max_us": 40}
    good |= {"times_s": [1, 100], "std_us": [[1], [2]]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(good | yaml.safe_load(change)))
    assert main(["device", "show", str(tmp_path / "mine.yaml")]) == 2
    assert reason in capsys.readouterr().err
