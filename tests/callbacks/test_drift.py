"""Ageing chips from the command line: which networks, which rows, in what order."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hwaware.chip import CHIP_SEED_START, VALIDATION_CHIP_SEED_START, Chip
from hwaware.cli.main import main
from hwaware.data import ImageData
from hwaware.hardware import load_hardware
from hwaware.models import build_model
from hwaware.nn import convert
from hwaware.tasks import ImageClassification
from tests.command_line import FINETUNE, NO_DEVICE, measured, pretrained_weights, run


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Folder of a run that was finetuned and evaluated."""
    folder = tmp_path_factory.mktemp("fitted")
    run(*_common("fit", folder), "--evaluation.networks", "[base_uncorrected,base,finetuned]")
    return folder / "finetune" / "version_0"


def _common(command, folder, *more):
    return (
        command,
        "--config",
        FINETUNE,
        "--model.weights",
        pretrained_weights(),
        "--trainer.default_root_dir",
        folder,
        *more,
    )


def drift(folder, *more):
    run(*_common("drift", folder), *more)
    return measured(folder / "finetune" / "version_0" / "rows.csv")


def test_rows_of_a_fit(fitted):
    rows = measured(fitted / "rows.csv")
    keys = [(row.network, row.chip_seed, row.age_s, row.metric) for row in rows]
    chips = (CHIP_SEED_START, CHIP_SEED_START + 1)
    assert keys == [
        (network, chip, age_s, metric)
        for network in ("base_uncorrected", "base", "finetuned")
        for chip in chips
        for age_s in (0.0, 315360000.0)
        for metric in ("top1", "top5")
    ]
    first = rows[0]
    assert (first.recipe, first.model, first.dataset, first.method) == ("finetune", "tiny_test_net", "digits", "none")
    assert (first.device, first.mapping, first.n_samples, first.seed) == ("reram_cmo", "differential", 359, 0)
    assert json.loads(first.device_params)["kappa"] == 2.0
    assert len({row.base_digital for row in rows if row.metric == "top1"}) == 1
    drift_free = {row.network: row.drift_free for row in rows if row.metric == "top1"}
    assert drift_free["base"] == pytest.approx(first.base_digital, abs=0.3)  # conversion keeps the function
    assert drift_free["base_uncorrected"] < drift_free["base"] - 1  # and the uncorrected curve does not


def test_a_row_is_what_plain_python_gives(fitted):
    """The row of base on the second chip at ten years, without Lightning."""
    rows = measured(fitted / "rows.csv")
    row = next(
        row for row in rows if (row.network, row.chip_seed, row.age_s) == ("base", CHIP_SEED_START + 1, 315360000.0)
    )
    task = ImageClassification("tiny_test_net", num_classes=10)
    data = ImageData(source="digits")
    data.inputs = task.inputs
    data.setup("test")
    network = build_model("tiny_test_net", weights=str(pretrained_weights()), num_classes=10)
    convert(network, load_hardware("reram_cmo", mapping="differential"))
    hits = []
    with Chip.program(network.eval(), CHIP_SEED_START + 1).at(315360000.0), torch.no_grad():
        for images, labels in data.test_dataloader():
            hits.append((network(images).argmax(1) == labels).float())
    assert row.value == pytest.approx(100 * torch.cat(hits).mean().item(), abs=1e-3)


def test_everything_a_run_leaves(fitted):
    found = {str(path.relative_to(fitted)) for path in fitted.rglob("*") if path.is_file()}
    assert found == {
        "checkpoints/last.ckpt",
        "classes.json",
        "config.yaml",
        "conversion.csv",
        "metrics.csv",
        "model.safetensors",
        "report.html",
        "rows.csv",
        "summary.csv",
        *(
            f"plots/{name}.{kind}"
            for kind in ("png", "svg")
            for name in (
                "accuracy_reram_cmo_differential_top1",
                "accuracy_reram_cmo_differential_top5",
                "chips_reram_cmo_differential_top1",
                "cells_reram_cmo_differential",
                "learning",
                "transform_reram_cmo_differential",
            )
        ),
    }


def test_drift_repeats_the_rows_of_the_fit(fitted, tmp_path, capsys):
    rows = drift(tmp_path, "--weights", fitted / "model.safetensors")
    assert "finetuned for other hardware" not in capsys.readouterr().out
    assert rows == [row for row in measured(fitted / "rows.csv") if row.network != "base_uncorrected"]


@pytest.mark.slow
def test_drift_of_plain_weights_is_the_base(fitted, tmp_path):
    state = load_file(pretrained_weights())
    save_file(state, tmp_path / "plain.safetensors")
    rows = drift(tmp_path, "--model.weights", "null", "--weights", tmp_path / "plain.safetensors")
    assert rows == [row for row in measured(fitted / "rows.csv") if row.network == "base"]


@pytest.mark.slow
def test_drift_without_weights_takes_the_recipes(fitted, tmp_path):
    assert drift(tmp_path) == [row for row in measured(fitted / "rows.csv") if row.network == "base"]


@pytest.mark.slow
def test_several_devices_and_an_ablations_name(fitted, tmp_path, capsys):
    tensor = "{device: {name: reram_relative, relative_drift: 0.2}}"
    channel = "{device: {name: reram_relative}, encoding: {scale: channel}}"
    hardware = ("--evaluation.hardware", f"[{tensor}, {channel}]")
    options = (*hardware, "--evaluation.finetuned_as", "retention", "--evaluation.n_chips", 1)
    rows = drift(tmp_path, "--weights", fitted / "model.safetensors", *options)
    assert [
        (row.network, json.loads(row.device_params)["scale"], row.age_s) for row in rows if row.metric == "top1"
    ] == [
        (network, scale, age_s)
        for network in ("base", "retention")
        for scale in ("tensor", "channel")
        for age_s in (0.0, 315360000.0)
    ]
    plots = tmp_path / "finetune" / "version_0" / "plots"
    assert len(list(plots.glob("cells_*.png"))) == 2
    assert (plots / "devices_top1.png").is_file()
    printed, page = capsys.readouterr().out, (tmp_path / "finetune" / "version_0" / "report.html").read_text()
    assert printed.count("tiny_test_net on digits · reram_relative, differential: 2 side by side") == 1  # not top-5
    for scale in ("tensor", "channel"):
        said = f"than it is scored on (reram_relative, scale per {scale}"
        said = f"retention was finetuned for other hardware (reram_cmo, scale per tensor) {said}"
        assert printed.count(said) == 1 and said in page


@pytest.mark.slow
def test_every_few_epochs(tmp_path):
    run(*_common("fit", tmp_path), "--evaluation.every_n_epochs", 1, "--evaluation.networks", "[]")
    text = (tmp_path / "finetune" / "version_0" / "metrics.csv").read_text()
    header, *lines = text.splitlines()
    column = header.split(",").index("drift/reram_cmo_differential/10 years/top1")
    assert sum(line.split(",")[column] != "" for line in lines) == 2


@pytest.mark.slow
def test_validation_images_and_chips_for_choosing(tmp_path):
    rows = drift(tmp_path, "--evaluation.split", "val", "--evaluation.n_chips", 1)
    assert {(row.n_samples, row.chip_seed) for row in rows} == {(143, VALIDATION_CHIP_SEED_START)}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--weights", "a", "--ckpt_path", "b"], "exclude each other"),
        (["--evaluation.networks", "[finetuned]"], "no network to evaluate"),
        (["--evaluation.n_chips", "0"], "n_chips=0"),
        (["--evaluation.ages_s", "[0.5]"], "0.5"),
        (
            NO_DEVICE,
            "no hardware to evaluate",
        ),
    ],
)
def test_wrong_requests(tmp_path, capsys, arguments, reason):
    assert main([str(part) for part in _common("drift", tmp_path, *arguments)]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_loss_of_ones_own_ends_a_life(tmp_path, capsys):
    arguments = ["drift", "--config", FINETUNE, "--model.weights", str(pretrained_weights())]
    arguments += ["--trainer.default_root_dir", str(tmp_path), "--evaluation.networks", "[base]"]
    run(*arguments, "--evaluation.loss_points", 30, "--evaluation.percentile", 1, "--evaluation.yield", 99)
    assert "life of 99 % of chips to −30" in " ".join(capsys.readouterr().out.split())
    with (tmp_path / "finetune" / "version_0" / "summary.csv").open() as file:
        assert {float(line["yield_percent"]) for line in csv.DictReader(file) if line["metric"] == "top1"} == {100.0}
        file.seek(0)
        assert "p1" in next(csv.reader(file))
    assert main([*arguments, "--evaluation.loss_points", "0"]) == 2
    assert "loss_points=0.0 must lie in (0, 100)" in capsys.readouterr().err
