"""Chips that differ as wholes, from the command line."""

from __future__ import annotations

import csv
import json

from hwaware.chip import CHIP_SEED_START
from hwaware.cli.main import main
from hwaware.export.bundle import read_bundle
from hwaware.hardware.devices.die_spread import DieSpread
from tests.command_line import FINETUNE, measured, pretrained_weights, run

SPREAD = {"drift_mean": 0.3, "window": 0.1, "chips_per_die": 2}


def test_commands_take_the_spread_and_results_name_it(tmp_path, capsys):
    weights = pretrained_weights()
    common = ("--config", FINETUNE, "--model.weights", weights, "--trainer.default_root_dir", tmp_path)
    words = ("--model.hardware.device.die_spread", json.dumps(SPREAD))
    chips = ("--evaluation.n_chips", 4, "--evaluation.networks", "[base]")
    run("compare", *common, *words, *chips, "--evaluation.methods", "[{class_path: ChannelAffine}]")
    out, folder = capsys.readouterr().out, tmp_path / "finetune" / "version_0"
    assert "die to die ± 30 % drift mean, 10 % window; 2 chips a die" in " ".join(out.split())
    assert "Between dies: " in out and "Between dies: " in (folder / "report.html").read_text()
    rows = measured(folder / "rows.csv")
    assert all(json.loads(row.device_params)["die_spread"] == SPREAD for row in rows)
    assert {row.method for row in rows} == {"none", "channel_affine"}
    with (folder / "summary.csv").open() as file:
        assert all(line["std_between_dies"] and line["std_within_die"] for line in csv.DictReader(file))
    # The same chips without it: other rows, and none of their parameters.
    run("drift", *common, *chips)
    plain = measured(tmp_path / "finetune" / "version_1" / "rows.csv")
    assert not any("die_spread" in row.device_params for row in plain)
    values = [{(row.chip_seed, row.age_s): row.value for row in some if row.method == "none"} for some in (rows, plain)]
    assert values[0].keys() == values[1].keys() and values[0] != values[1]
    assert min(seed for seed, _ in values[0]) == CHIP_SEED_START

    run("export", *common, *words, "--out", tmp_path / "bundle", "--evaluation.n_chips", 1)
    held = {hardware.device.die_spread for hardware in read_bundle(tmp_path / "bundle").hardware.values()}
    assert held == {DieSpread(**SPREAD)}


def test_a_spread_that_can_not_be_is_said_before_anything_runs(tmp_path, capsys):
    common = ["drift", "--config", FINETUNE, "--trainer.default_root_dir", str(tmp_path)]
    wrong = [
        *common,
        "--model.hardware.device.die_spread",
        "{window: 0.3}",
        "--model.weights",
        str(pretrained_weights()),
    ]
    assert main(wrong) == 2
    assert "die_spread.window=0.3 makes the window of some chips empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
