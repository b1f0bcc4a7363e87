"""Each layer on hardware of its own, through training, chips, files and results."""

import csv
import json

import pytest
import torch

import hwaware
from hwaware.chip import CHIP_SEED_START
from hwaware.cli.main import main
from hwaware.export.weights import read_header
from hwaware.hardware import placement_from_plain
from hwaware.models import build_model
from hwaware.nn import analog_layers
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, measured, pretrained_weights, run

TEN_YEARS_S = 315_360_000.0
LAYERS = (
    "[{match: conv2, encoding: {mapping: offset, scale: channel, kappa: 1.0}, crossbar: {columns: 8}}, "
    "{match: linear, device: {name: reram_relative, relative_drift: 0.05}, encoding: {format: {levels: 15}}}]"
)


def _arguments(command, folder, *more):
    weights = ("--model.weights", pretrained_weights(), "--trainer.default_root_dir", folder)
    return (command, "--config", FINETUNE, *weights, "--model.hardware.layers", LAYERS, *more)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    run(*_arguments("fit", folder, "--trainer.max_epochs", 1))
    return folder / "finetune" / "version_0"


def test_rows_say_what_differs(fitted):
    rows = read_rows(fitted / "rows.csv")
    params = json.loads(rows[0].device_params)
    assert {(row.device, row.mapping) for row in rows} == {("reram_relative", "differential")}  # of most weights
    assert params["scale"] == "tensor" and params["kappa"] == 2.0 and "columns" not in params
    assert params["relative_drift"] == 0.05 and params["levels"] == 15
    first, second = params["layers"]["conv1"], params["layers"]["conv2"]
    assert first["device"] == second["device"] == "reram_cmo" and first["levels"] is None
    assert {key: value for key, value in second.items() if first.get(key) != value} == {
        "mapping": "offset", "scale": "channel", "kappa": 1.0, "columns": 8
    }  # fmt: skip
    assert first["relative_drift"] is None


def test_conversion_counts_the_cells_of_each_layer(fitted):
    with (fitted / "conversion.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["n_cells"]) / int(line["n_weights"]) for line in lines] == [2, 1, 2]
    assert lines[1]["hardware"] == "reram_cmo (offset)" and lines[2]["hardware"].startswith("reram_relative (")


def test_files_hold_the_hardware_of_each_layer(fitted):
    header = read_header(fitted / "model.safetensors")["hardware"]
    on = placement_from_plain(header).assign(["conv1", "conv2", "linear"])
    assert [one.encoding.mapping for one in on.values()] == ["differential", "offset", "differential"]
    assert [one.device.name for one in on.values()] == ["reram_cmo", "reram_cmo", "reram_relative"]


def test_drift_repeats_the_rows(fitted, tmp_path):
    run(*_arguments("drift", tmp_path, "--weights", fitted / "model.safetensors"))
    assert measured(tmp_path / "finetune" / "version_0" / "rows.csv") == measured(fitted / "rows.csv")


def test_a_chip_ages_each_layer_by_its_own_law(fitted):
    network = build_model("tiny_test_net", weights=str(fitted / "model.safetensors"), num_classes=10)
    hwaware.convert(network, placement_from_plain(read_header(fitted / "model.safetensors")["hardware"]))
    chip = hwaware.Chip.program(network, CHIP_SEED_START)
    late, later = (chip.weight_at("linear", age_s) for age_s in (3600.0, TEN_YEARS_S))
    assert torch.equal(late, later)  # a relative drift is time-independent
    assert not torch.equal(chip.weight_at("conv2", 3600.0), chip.weight_at("conv2", TEN_YEARS_S))
    assert len(chip.conductances_at("conv1", 0.0)) == 2 and len(chip.conductances_at("conv2", 0.0)) == 1


def test_a_bundle_gives_the_layers_back(fitted, tmp_path):
    run(*_arguments("export", tmp_path, "--weights", fitted / "model.safetensors", "--out", tmp_path / "bundle"))
    bundle = hwaware.read_bundle(tmp_path / "bundle")
    network = build_model("tiny_test_net", num_classes=10).eval()
    bundle.install(network)
    finetuned = build_model("tiny_test_net", weights=str(fitted / "model.safetensors"), num_classes=10).eval()
    hwaware.convert(finetuned, placement_from_plain(read_header(fitted / "model.safetensors")["hardware"]))
    assert {name: layer.hardware for name, layer in analog_layers(network).items()} == bundle.hardware
    images = torch.randn(4, 3, 8, 8)
    for model in (network, finetuned):
        with hwaware.Chip.program(model, CHIP_SEED_START).at(TEN_YEARS_S), torch.no_grad():
            model.found = model(images)
    torch.testing.assert_close(network.found, finetuned.found, rtol=1e-3, atol=1e-3)


def test_a_run_goes_on_only_on_the_same_hardware(fitted, tmp_path, capsys):
    checkpoint = ("--ckpt_path", fitted / "checkpoints" / "last.ckpt", "--evaluation.networks", "[]")
    run(*_arguments("fit", tmp_path, *checkpoint, "--trainer.max_epochs", 1))
    other = [str(part) for part in _arguments("fit", tmp_path, *checkpoint)]
    other[other.index(LAYERS)] = LAYERS.replace("kappa: 1.0", "kappa: 1.5")
    assert main(other) == 2
    error = capsys.readouterr().err
    assert "the checkpoint belongs to another hardware" in error and "kappa: checkpoint 1.0, recipe 1.5" in error


def test_a_device_file_that_changes_later_changes_nothing(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "law: relative\ng_min_us: 1\ng_max_us: 100\nrelative_drift: 0.1\nencoding: {mapping: offset, kappa: null}\n"
    )
    options = hwaware.hardware.HardwareOptions({"name": str(file)})
    file.write_text("law: relative\ng_min_us: 1\ng_max_us: 100\nrelative_drift: 0.9\n")
    (hardware,) = options.placement.every
    assert hardware.device.relative_drift == 0.1 and hardware.encoding.mapping == "offset"
