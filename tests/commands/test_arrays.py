"""``hwaware arrays`` from the command line."""

from __future__ import annotations

import csv
import json

import pytest
import yaml

from hwaware.cli.main import main
from hwaware.cli.normalise import normalise_options
from hwaware.cli.precheck import precheck
from hwaware.errors import UserError
from tests.command_line import FINETUNE, NO_DEVICE, run

CROSSBAR = "--model.hardware.crossbar"
SMALL = (f"{CROSSBAR}.rows", 32, f"{CROSSBAR}.columns", 16)
BITS = (f"{CROSSBAR}.converters.adc_bits", 8, f"{CROSSBAR}.converters.dac_bits", 8)


def _arguments(folder, *options):
    return ["arrays", "--config", FINETUNE, "--trainer.default_root_dir", folder, *options]


def _lines(folder):
    with (folder / "finetune" / "version_0" / "arrays.csv").open() as file:
        return list(csv.DictReader(file))


def test_counts_of_a_network_without_weights(tmp_path, capsys):
    run(*_arguments(tmp_path, *SMALL))
    by_layer = {line["layer"]: line for line in _lines(tmp_path)}
    assert [*by_layer] == ["conv1", "conv2", "linear"]
    conv = by_layer["conv2"]  # 16 × 8 × 3 × 3 at 4 × 4: 72 rows in 3 arrays, 16 pairs of columns in 2
    assert (conv["arrays"], conv["parts"], conv["reads"]) == ("6", "3", "16")
    assert (conv["dac_conversions"], conv["adc_conversions"]) == (str(16 * 72 * 2), str(16 * 16 * 3))
    assert (conv["additions"], conv["cell_reads"]) == (str(16 * 16 * 2), str(16 * 72 * 32))
    assert float(conv["utilisation_percent"]) == pytest.approx(100 * 72 * 32 / (6 * 32 * 16))
    assert conv["model"] == "tiny_test_net" and conv["device"] == "reram_cmo" and conv["mapping"] == "differential"
    assert json.loads(conv["device_params"])["rows"] == 32 and conv["commit"] and conv["version"]
    assert conv["digital_parameters"] == "58" and not any("estimated" in key for key in conv)
    shown = capsys.readouterr().out
    assert "conv2" in shown and "58 parameters stay digital" in shown and "nJ" not in shown


def test_constants_are_named_and_what_they_give_is_an_estimate(tmp_path, capsys):
    run(*_arguments(tmp_path, *SMALL, *BITS, "--constants", "isaac"))
    for line in _lines(tmp_path):
        assert line["constants"] == "isaac"
        assert float(line["estimated_adc_pj"]) == int(line["adc_conversions"]) * 1.5625
        assert float(line["estimated_dac_pj"]) == int(line["dac_conversions"]) * 8 * 0.390625
        parts = [float(line[f"estimated_{one}_pj"]) for one in ("dac", "adc", "cells", "additions")]
        assert float(line["estimated_energy_pj"]) == pytest.approx(sum(parts))
        assert float(line["estimated_latency_us"]) == pytest.approx(int(line["reads"]) * 0.1)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Estimated by the constants of ISAAC (Shafiee et al., ISCA 2016)" in shown and "no buffers" in shown


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (NO_DEVICE, "there is no hardware to count"),
        (["--constants", "isaac"], "constants: the converters have no dac_bits"),
        (["--constants", "isac"], "constants 'isac' are unknown. Did you mean 'isaac'?"),
        (["--constants", "none.yaml"], "there is no file of constants 'none.yaml'"),
        ([f"{CROSSBAR}.rows", "0"], "rows=0 must be a whole number of at least 1"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(tmp_path, capsys, options, reason):
    assert main([str(one) for one in _arguments(tmp_path, *options)]) == 2
    assert reason in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_file_with_a_negative_value_is_refused(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    keys = "adc_energy_pj adc_bits adc_time_ns columns_per_adc dac_energy_pj dac_bits array_read_time_ns".split()
    path.write_text(yaml.safe_dump({**dict.fromkeys(keys, 1), "cell_read_energy_fj": -3, "addition_energy_pj": 1}))
    assert main([str(one) for one in _arguments(tmp_path / "runs", *BITS, "--constants", path)]) == 2
    assert "cell_read_energy_fj=-3.0 must be a finite number of 0 or more" in capsys.readouterr().err


def test_a_typing_error_is_told_early():
    with pytest.raises(UserError, match=r"constants 'isac' are unknown\. Did you mean 'isaac'"):
        precheck("arrays", normalise_options(["--config", FINETUNE, "--constants", "isac"]))
    for right in ("isaac", "mine.yaml"):
        precheck("arrays", normalise_options(["--config", FINETUNE, "--constants", right]))
