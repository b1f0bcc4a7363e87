"""A run with converters: their ranges are measured once, kept with the weights, and used by every command."""

from __future__ import annotations

import json

import pytest
import torch

from hwaware.cli.main import main
from hwaware.export.bundle import read_bundle
from hwaware.export.weights import load_weights, read_checkpoint, read_header
from hwaware.hardware import Converters, CrossbarOptions, HardwareOptions, Ranges
from hwaware.nn import Measured, analog_layers
from hwaware.tasks import ImageClassification
from tests.command_line import FINETUNE, measured, pretrained_weights, run

pytestmark = pytest.mark.slow

KEY = "--model.hardware.crossbar.converters"
CONVERTERS = (f"{KEY}.dac_bits", 6, f"{KEY}.adc_bits", 6, f"{KEY}.samples", 100, f"{KEY}.output_noise", 0.01)


def _common(command, folder, *more):
    weights = ("--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder)
    return (command, "--config", FINETUNE, *weights, *CONVERTERS, *more)


SIX_BITS = Converters(dac_bits=6, adc_bits=6)


def _task(converters=SIX_BITS):
    hardware = HardwareOptions({"name": "reram_cmo"}, crossbar=CrossbarOptions(converters=converters))
    return ImageClassification("tiny_test_net", weights=str(pretrained_weights()), num_classes=10, hardware=hardware)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folder of a run of two epochs, that was validated on the way and evaluated on chips."""
    folder = tmp_path_factory.mktemp("fitted")
    run(*_common("fit", folder))
    return folder / "finetune" / "version_0"


def test_rows_name_the_converters(fitted):
    rows = measured(fitted / "rows.csv")
    assert {row.network for row in rows} == {"base", "finetuned"}
    for row in rows:
        assert json.loads(row.device_params)["converters"] == {
            "dac_bits": 6, "adc_bits": 6, "percentile": 99.9, "samples": 100, "input_range": 1.0, "output_noise": 0.01,
        }  # fmt: skip


def test_ranges_are_kept_with_the_weights(fitted):
    file = fitted / "model.safetensors"
    header, saved = read_header(file), read_checkpoint(fitted / "checkpoints" / "last.ckpt")["hwaware"]
    assert header["hardware"]["default"]["crossbar"]["converters"]["dac_bits"] == 6
    assert saved["hardware"] == header["hardware"]
    assert set(header["ranges"]) == {"conv1", "conv2", "linear"} and saved["ranges"] == header["ranges"]
    for path in (file, fitted / "checkpoints" / "last.ckpt"):
        _, network = load_weights(_task(), path)
        assert Measured.of(network).ranges == header["ranges"]


def test_drift_uses_the_ranges_of_the_run(fitted, tmp_path):
    run(*_common("drift", tmp_path), "--weights", fitted / "model.safetensors")
    assert measured(tmp_path / "finetune" / "version_0" / "rows.csv") == measured(fitted / "rows.csv")


def test_a_run_goes_on_with_its_ranges(fitted):
    task = _task(converters=Converters(dac_bits=6, adc_bits=6, samples=100, output_noise=0.01))
    checkpoint = read_checkpoint(fitted / "checkpoints" / "last.ckpt")
    task.noise, task.retention = None, None
    task.on_load_checkpoint(checkpoint)
    assert Measured.of(task.network).ranges == checkpoint["hwaware"]["ranges"]
    task.calibrate(task.network, None)  # nothing to measure


def test_other_commands(fitted, tmp_path):
    run(*_common("validate", tmp_path))
    run(*_common("sensitivity", tmp_path, "--chips", 1, "--weights", fitted / "model.safetensors"))
    run(*_common("export", tmp_path, "--weights", fitted / "model.safetensors", "--out", tmp_path / "bundle"))
    bundle, header = read_bundle(tmp_path / "bundle"), read_header(fitted / "model.safetensors")
    assert {name: ranges.plain() for name, ranges in bundle.ranges.items()} == header["ranges"]


def test_without_converters_nothing_of_them_is_recorded():
    task, checkpoint = _task(converters=None), {"state_dict": {}}
    task.on_save_checkpoint(checkpoint)
    assert task.hardware_plain["default"]["crossbar"]["converters"] is None
    assert checkpoint["hwaware"]["ranges"] == {}
    old = {key: value for key, value in checkpoint["hwaware"].items() if key != "ranges"}
    task.on_load_checkpoint({"hwaware": old})
    assert all(layer.ranges is None for layer in analog_layers(task.network).values())


def test_a_task_calibrates_only_what_has_no_ranges_and_needs_data():
    task = _task()
    Measured(ranges={name: (1.0, 2.0) for name in analog_layers(task.network)}).give(task.network)
    task.calibrate(task.network, None)
    assert task.network.conv1.ranges == Ranges(1.0, 2.0)
    task.network.conv1.ranges = None
    with pytest.raises(ValueError, match="ranges of converters are measured on calibration samples: give a data"):
        task.calibrate(task.network, None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([f"{KEY}.dac_bits", "0"], "dac_bits=0 must be a whole number in [2, 16]"),
        ([f"{KEY}.input_kappa", "2.0"], "input_kappa=2.0 is the cell's I-V curve, which the encoding has"),
        ([f"{KEY}.percentil", "99"], "converters.percentil"),
    ],
)
def test_bad_input(options, reason, tmp_path, capsys):
    assert main([str(part) for part in _common("fit", tmp_path / "runs", *options)]) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_training_learns_through_the_converters():
    """Gradients reach the first layer, and the noise of the outputs is fresh in every step."""
    task = _task(converters=Converters(dac_bits=4, adc_bits=4, output_noise=0.05))
    Measured(ranges={name: (3.0, 3.0) for name in analog_layers(task.network)}).give(task.network)
    task.train()
    images = torch.randn(8, 3, 8, 8)
    first, second = task.network(images), task.network(images)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert task.network.conv1.weight.grad.abs().sum() > 0
