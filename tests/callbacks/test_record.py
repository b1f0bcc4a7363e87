"""What a run writes down about itself."""

from __future__ import annotations

import csv
import json
import struct
import time

import pytest
import yaml
from safetensors.torch import load_file

from hwaware.callbacks import RunRecord
from hwaware.export.weights import hardware_of
from hwaware.hardware import load_device, placement_from_plain
from hwaware.results.csv import read_rows
from tests.command_line import FINETUNE, PRETRAIN, pretrained_weights, run


@pytest.fixture
def finetuned(tmp_path):
    common = ("--model.weights", pretrained_weights(), "--evaluation.networks", "[]", "--trainer.max_epochs", 1)
    run("fit", "--config", FINETUNE, *common, "--trainer.default_root_dir", tmp_path)
    return tmp_path / "finetune" / "version_0"


def test_conversion_report(finetuned):
    rows = list(csv.DictReader((finetuned / "conversion.csv").open()))
    assert [row["name"] for row in rows] == ["conv1", "conv2", "linear"]
    assert [int(row["n_weights"]) for row in rows] == [216, 1152, 2560]
    assert [int(row["n_cells"]) for row in rows] == [432, 2304, 5120]
    assert rows[1]["shape"] == "16x8x3x3"


def test_saved_configuration_stands_alone_and_repeats_the_run(finetuned, tmp_path):
    config = yaml.safe_load((finetuned / "config.yaml").read_text())
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.02
    assert config["trainer"]["max_epochs"] == 1
    assert config["recipe"] == "finetune"
    run("fit", "--config", finetuned / "config.yaml")
    again = finetuned.parent / "version_1"
    one, other = load_file(finetuned / "model.safetensors"), load_file(again / "model.safetensors")
    assert [key for key in one if not one[key].equal(other[key])] == []


LAB = """\
law: log_time
g_min_us: 2
g_max_us: 60
programming_std_offset_us: 0.05
programming_std_slope: 0.01
drift_mean_slope_us: %s
drift_std_offset_us: 0.1
drift_std_slope_us: 0.02
"""


def test_a_device_file_that_changes_while_a_run_begins_or_trains_changes_nothing(tmp_path, monkeypatch):
    """Chips, rows, weights and the run's copy have the constants that the recipe was read with."""
    lab, other = tmp_path / "lab.yaml", tmp_path / "other" / "lab.yaml"
    other.parent.mkdir()
    lab.write_text(LAB % -0.03)
    other.write_text(LAB % -0.05)
    write, few = RunRecord.write, ("--model.weights", pretrained_weights(), "--trainer.max_steps", 1)

    def changed(self, trainer, task):
        for file in (lab, other):
            file.write_text(LAB % -0.9)
        write(self, trainer, task)

    monkeypatch.setattr(RunRecord, "write", changed)
    few += ("--evaluation.n_chips", 1, "--evaluation.networks", "[finetuned]", "--evaluation.ages_s", "[1e8]")
    hardware = f"[{{device: {{name: {lab}}}}}, {{device: {{name: {other}}}}}]"
    devices = ("--model.hardware.device.name", lab, "--evaluation.hardware", hardware)
    run("fit", "--config", FINETUNE, *few, *devices, "--trainer.default_root_dir", tmp_path / "runs")
    monkeypatch.undo()
    folder = tmp_path / "runs" / "finetune" / "version_0"
    assert {json.loads(row.device_params)["drift_mean_slope_us"] for row in read_rows(folder / "rows.csv")} == {
        -0.03, -0.05,
    }  # fmt: skip
    (trained,) = placement_from_plain(hardware_of(folder / "model.safetensors")).every
    assert trained.device.drift_mean_slope_us == -0.03
    config = yaml.safe_load((folder / "config.yaml").read_text())
    kept = [config["model"]["init_args"]["hardware"], *config["evaluation"]["hardware"]]
    found = [load_device(one["device"]["name"]) for one in kept]
    assert [(one.name, one.drift_mean_slope_us) for one in found] == [("lab", -0.03), ("lab", -0.03), ("lab", -0.05)]


def test_digital_runs_have_no_conversion(tmp_path):
    run("fit", "--config", PRETRAIN, "--trainer.default_root_dir", tmp_path, "--trainer.limit_train_batches", 2)
    files = {path.name for path in (tmp_path / "pretrain" / "version_0").iterdir()}
    assert files == {"checkpoints", "classes.json", "config.yaml", "metrics.csv", "model.safetensors"}


def test_trial_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), "--trainer.fast_dev_run", "true")
    assert list(tmp_path.iterdir()) == []


def test_validate_and_test_write_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command, metric in (("validate", "val/top1"), ("test", "test/top1")):
        run(command, "--config", PRETRAIN, "--model.weights", pretrained_weights())
        assert metric in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_weights_and_biases_run_reads_back(tmp_path, monkeypatch):
    """The run that wandb wrote offline, read with wandb's own log reader: configuration, curves, table, images."""
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    # wandb's service may be running since an earlier test, and resolves relative paths in that one's folder.
    logger = f"{{class_path: WandbLogger, init_args: {{offline: true, project: tests, save_dir: {tmp_path}}}}}"
    options = ("--trainer.logger", logger, "--evaluation.n_chips", 1, "--trainer.max_epochs", 1)
    options += ("--evaluation.methods", "[{class_path: GlobalDriftCompensation}]")
    run("fit", "--config", FINETUNE, "--model.weights", pretrained_weights(), *options)
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    for _ in range(100):  # wandb's own process may still be writing
        if any(record.WhichOneof("record_type") == "exit" for record in _records(file)):
            break
        time.sleep(0.1)
    config, keys, artefacts = {}, set(), {}
    for record in _records(file):
        kind = record.WhichOneof("record_type")
        if kind in ("config", "run"):  # what is set early enough is in the run's own record
            update = record.config.update if kind == "config" else record.run.config.update
            config |= {item.key: json.loads(item.value_json) for item in update}
        if kind == "artifact":
            artefacts[record.artifact.type] = sorted(entry.path for entry in record.artifact.manifest.contents)
        if kind == "history":
            keys |= {item.key or item.nested_key[0] for item in record.history.item}
    assert config["trainer"]["max_epochs"] == 1
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.02
    assert {"train/task_loss", "train/retention", "train/lambda", "train/age_s", "drift/rows", "drift/costs"} <= keys
    assert "drift/report" in keys
    assert {"drift/accuracy_reram_cmo_differential_top1_finetuned", "drift/transform_reram_cmo_differential"} <= keys
    assert artefacts["rows"] == ["costs.csv", "rows.csv", "summary.csv"]
    assert artefacts["model"] == ["model.safetensors"]
    assert "drift/mean/reram_cmo_differential_top1/finetuned" in keys
    media = {path.suffix for path in file.parent.rglob("media/**/*") if path.is_file()}
    assert {".png", ".json", ".html"} <= media
    assert (tmp_path / "runs" / "finetune" / "version_0" / "rows.csv").is_file()  # CSV stands beside it
    import wandb

    assert wandb.run is None  # finished


def _records(file):
    """Protobuf records of wandb's log: LevelDB's format (blocks of 32 KiB; crc, length, type) after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = file.read_bytes(), 7, []
    while position + 7 <= len(data):
        left = 2**15 - position % 2**15
        if left < 7:  # too short for a header: padding
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        if position + 7 + length > len(data):  # half written
            return
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record
