"""Bad input: one or two lines, reason first, exit status 2, no traceback, nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hwaware.cli.main import main
from tests.command_line import FINETUNE, PRETRAIN, pretrained_weights


def write_images(folder: Path, classes: list[str], corrupt: bool = False) -> None:
    """An image folder with train and test splits."""
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = np.full((8, 8, 3), 20 * number + i, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    if corrupt:
        (folder / "train" / classes[0] / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")


class Unsafe:
    """Something that pickle would have to import."""


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with everything that is wrong in its own way."""
    folder = tmp_path / "files"
    folder.mkdir()
    weights = pretrained_weights()
    (folder / "cut.safetensors").write_bytes(weights.read_bytes()[:3000])
    state = load_file(weights)
    torch.save({"state_dict": Unsafe()}, folder / "unsafe.pth")
    state["conv2.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, folder / "nan.safetensors")
    (folder / "empty").mkdir()
    write_images(folder / "one", ["cat"])
    write_images(folder / "corrupt", ["cat", "dog"], corrupt=True)
    (folder / "unknown_key.yaml").write_text("model: {init_args: {nois: null}}")
    (folder / "unknown_nested.yaml").write_text("model: {init_args: {hardware: {encoding: {mappings: offset}}}}")
    (folder / "unknown_prefix.yaml").write_text("trainer: {max_epoch: 1}")
    (folder / "parent.yaml").write_text("based_on: 5")
    (folder / "unknown_top.yaml").write_text("trainers: {max_epochs: 1}")
    return folder


CASES = {
    # command
    "command": (["ft"], "no command 'ft'. Did you mean 'fit'?"),
    "no recipe": (["fit"], "no recipe"),
    "recipe without a name": (["--config"], "--config has no value: give --config RECIPE"),
    "recipe without any name": (["--config="], "--config has no value: give --config RECIPE"),
    "missing recipe": (["fit", "--config", "nowhere.yaml"], "no recipe 'nowhere.yaml'"),
    "a key that a recipe leaves open": (
        ["--model.name", "null"],
        "model.name is missing: set it in the recipe, or give",
    ),
    # names
    "model": (["--model.name", "tiny_test_nt"], "Did you mean 'tiny_test_net'?"),
    "device": (["--model.hardware.device.name", "reram_cm"], "Did you mean 'reram_cmo'?"),
    "mapping": (["--model.hardware.encoding.mapping", "diferential"], "Did you mean 'differential'?"),
    "class": (["--model", "ImageClasification"], "Did you mean 'ImageClassification'?"),
    "optimiser": (["--model.optimizer", "torch.optim.SDG"], "Did you mean 'SGD'?"),
    "network to evaluate": (["--evaluation.networks", "[bse]"], "Did you mean 'base'?"),
    # keys
    "prefix of a key": (
        ["--trainer.max_epoch", "1"],
        "trainer.max_epoch is not a key. Did you mean 'trainer.max_epochs'?",
    ),
    "key of the model": (
        ["--model.nois", "null"],
        "model.nois is not a key of ImageClassification. Did you mean 'noise'?",
    ),
    "key of the device": (["--model.hardware.encoding.mappings", "offset"], "Did you mean 'mapping'?"),
    "key of the optimiser": (
        ["--model.optimizer.lrr", "1"],
        "model.optimizer.lrr is not a key of SGD. Did you mean 'lr'?",
    ),
    "key in a file": (["--config", "{files}/unknown_key.yaml"], "Did you mean 'noise'?"),
    "nested key in a file": (["--config", "{files}/unknown_nested.yaml"], "Did you mean 'mapping'?"),
    "prefix in a file": (["--config", "{files}/unknown_prefix.yaml"], "Did you mean 'trainer.max_epochs'?"),
    "section in a file": (["--config", "{files}/unknown_top.yaml"], "Did you mean 'trainer'?"),
    "section without keys": (["--trainer", "cpu"], "trainer: 'cpu' is not a table of keys. It has trainer.accelerator"),
    "key whose nearest the run sets": (
        ["--evaluation.device", "pcm"],
        "evaluation.device is not a key.",
    ),
    "key below a value": (["--trainer.max_epochs.most", "1"], "trainer.max_epochs takes a value, not a table of keys"),
    "recipe without --config": (["fit", "recipe.yaml"], "'recipe.yaml' does not belong to an option; give a recipe as"),
    "option before the recipe": (["fit", "--confg", "recipe.yaml"], "confg is not a key. Did you mean 'config'?"),
    "class without a name": (["--evaluation.methods", "[{{share: 0.1}}]"], "evaluation.methods: give the name of a cl"),
    # values
    "window": (["--model.hardware.device.g_min_us", "100"], "g_min_us=100.0"),
    "negative sigma": (["--model.hardware.device.drift_std_offset_us", "-1"], "drift_std_offset_us"),
    "negative noise": (["--model.noise.std", "-0.1"], "std=-0.1"),
    "negative age": (["--evaluation.ages_s", "[-1]"], "age_s=-1.0"),
    "negative training age": (["--model.retention.ages_s", "[-3]"], "-3.0"),
    "age that the law lacks": (["--evaluation.ages_s", "[0.5]"], "age_s=0.5"),
    "kappa": (["--model.hardware.encoding.kappa", "0"], "kappa=0.0"),
    "range": (["--model.hardware.encoding.range_fraction", "1.5"], "range_fraction=1.5"),
    "prefix of a nested key": (["--model.noise.ages.kin", "fixed"], "noise.ages.kin is not a key of"),
    "no list": (["--evaluation.networks", "base"], "'base' is not a list; write [base]."),
    "a table for a list": (
        ["--model.hardware.layers", "{{match: a}}"],
        "model.hardware.layers is a list: write [{match: a}].",
    ),
    "a table for a list of the evaluation's": (
        ["--evaluation.hardware", "{{device: {{name: pcm}}}}"],
        "evaluation.hardware is a list: write [{device: {name: pcm}}].",
    ),
    "a long table for a list": (
        [
            "--evaluation.hardware",
            "{{device: {{name: pcm}}, encoding: {{mapping: offset, kappa: linear, scale: tensor}}}}",
        ],
        "evaluation.hardware is a list: write [{…}].",
    ),
    "no list of ages": (["--evaluation.ages_s", "3600"], "'3600' is not a list; write [3600]."),
    "a word for constants": (["--model.hardware.device", "pcm"], "give it as model.hardware.device.name pcm"),
    "a word for a device": (["--model.hardware", "reram_cmo"], "give it as model.hardware.device.name reram_cmo"),
    "a word for settings": (
        ["--model.distillation", "true"],
        "'true' is not a table of keys; give model.distillation.temp",
    ),
    "a word for converters": (
        ["--model.hardware.crossbar.converters", "8"],
        "'8' is unknown. Choose one of: exact. Or give some of its keys, such as",
    ),
    "a word for what needs two keys": (
        ["--model.hardware.keep_digital", "3"],
        "give model.hardware.keep_digital.ranking and model.hardware.keep_digital.layers.",
    ),
    "a word for a format": (
        ["--model.hardware.encoding.format", "levels"],
        "'levels' is unknown. Choose one of: continuous. Or give a table, such as {levels: 15}.",
    ),
    "a word for a number of levels": (
        ["--model.hardware.encoding.format.levels", "many"],
        "model.hardware.encoding.format.levels: 'many' is not a whole number.",
    ),
    "a word for kappa": (["--model.hardware.encoding.kappa", "wide"], "Choose one of: linear. Or give a number."),
    "no truth": (["--model.hardware.others_digital", "maybe"], "others_digital: 'maybe' is not true or false."),
    "a repair's short name": (["--evaluation.methods", "[{{class_path: RSA}}]"], "mean 'RandomSparseAdaptation'?"),
    "logger": (["--trainer.logger", "WandbLoger"], "Did you mean 'WandbLogger'?"),
    "precision": (["--trainer.precision", "bf17"], "Did you mean 'bf16'?"),
    "key in a list": (
        ["--evaluation.hardware", "[{{device: {{name: pcm}}, encoding: {{map: offset}}}}]"],
        "Did you mean 'mapping'?",
    ),
    "no number": (["--model.optimizer.lr", "fast"], "model.optimizer.lr: 'fast' is not a number"),
    "no number but null": (["--model.optimizer.lr", "null"], "model.optimizer.lr: null is not allowed"),
    "no number in a list": (["--evaluation.ages_s", "[0, soon]"], "evaluation.ages_s: 'soon' is not a number"),
    "no number of a device": (["--model.hardware.device.g_min_us", "low"], "g_min_us of device 'reram_cmo': 'low'"),
    "no seed": (["--seed_everything", "-1"], "seed_everything=-1"),
    "nothing matched": (["--model.hardware.layers", "[{{match: [], digital: true}}]"], "match is empty"),
    "nothing in cells": (["--model.hardware.others_digital", "true"], "no layer is analog"),
    "digital and not": (
        ["--model.hardware.layers", "[{{match: '*', digital: true, device: {{name: pcm}}}}]"],
        "is digital, so it",
    ),
    "validating on what is fitted": (
        ["--data.train_rows", "[0,500]", "--data.val_rows", "[400,600]"],
        "share 100 images",
    ),
    "no curve": (["--model.hardware.encoding.kappa", "0.001"], "[0.01, 10.0]"),
    "NaN constant": (["--model.hardware.device.stuck_on", "nan"], "stuck_on=nan"),
    "word of the encoding": (["--model.hardware.device.mapping", "offset"], "give it as encoding.mapping"),
    "format": (["--model.hardware.encoding.format.levls", "15"], "Did you mean 'levels'?"),
    "format of another mapping": (["--model.hardware.encoding.format.bits", "8"], "is for the mapping 'bit_sliced'"),
    "learning rate": (["--model.optimizer.lr", "-1"], "learning rate"),
    "clipping": (["--model.clip_alpha", "0"], "clip_alpha=0"),
    "smoothing": (["--model.label_smoothing", "1.5"], "label_smoothing=1.5"),
    "classes": (["--model.num_classes", "0"], "num_classes=0"),
    "batch": (["--data.batch_size", "5000"], "batch_size=5000 is above the "),
    "odd batch": (["--model.mixing.mixup_alpha", "1", "--data.batch_size", "33"], "batch_size=33 must be even"),
    "policy": (["--data.auto_augment", "rand-x9"], "auto_augment 'rand-x9' is not timm's"),
    "strategy": (["--trainer.strategy", "dpp"], "dpp"),
    "checkpoints": (["--checkpoint.save_top_k", "-5"], "save_top_k"),
    "no end": (["--trainer.max_epochs", "-1"], "never end"),
    "name of finetuned": (["--evaluation.finetuned_as", "base"], "finetuned_as='base'"),
    "parent of a recipe": (["--config", "{files}/parent.yaml"], "based_on 5"),
    "type": (["--trainer.max_epochs", "many"], "trainer.max_epochs: 'many' is not a whole number"),
    "choice": (["--model.noise.kind", "devic"], "Did you mean 'device'?"),
    "seed of a chip": (["--seed_everything", "1000000"], "seed_everything=1000000"),
    "pattern": (["--model.hardware.layers", "[{{match: head*, digital: true}}]"], "'head*' matches no layer"),
    "two patterns": (
        ["--model.hardware.layers", "[{{match: conv*, digital: true}}, {{match: conv1, encoding: {{kappa: 1}}}}]"],
        "layer 'conv1' is matched by 'conv*' and by 'conv1', which set different hardware",
    ),
    "accelerator": (["--trainer.accelerator", "mps"], "MPS"),
    "keys of a list": (
        ["--trainer.devices", "{{a: 1}}"],
        "`devices` selected with `CPUAccelerator` should be an int > 0",
    ),
    "keys in a list": (
        ["--trainer.devices", "[{{a: 1}}]"],
        "`devices` selected with `CPUAccelerator` should be an int > 0",
    ),
    "list of classes' weights": (
        ["--model.class_weights", "[1, 4]"],
        "give a weight for each class name (or number, if the data have no names): {cat: 1, dog: 4}",
    ),
    "no space after a colon": (
        ["--model.class_weights", "{{bad:4, good:1}}"],
        "'bad:4' lacks a space after the colon: write {bad: 4}",
    ),
    "no space after a text's colon": (["--model.class_weights", "bad:4"], "model.class_weights: 'bad:4' lacks a space"),
    "no space in a list": (
        ["--model.hardware.layers", "[{{match: a, encoding: {{kappa:2}}}}]"],
        "'kappa:2' lacks a space after the colon: write {kappa: 2}",
    ),
    # files
    "missing weights": (["--model.weights", "nowhere.safetensors"], "nowhere.safetensors"),
    "other weights": (["--model.name", "resnet20_cifar"], "does not contain the weights of resnet20_cifar"),
    "cut weights": (["--model.weights", "{files}/cut.safetensors"], "cut short"),
    "unsafe weights": (["--model.weights", "{files}/unsafe.pth"], "can't be loaded safely"),
    "NaN weight": (["--model.weights", "{files}/nan.safetensors"], "NaN"),
    "no weights": (["--model.weights", "null"], "no pretrained network"),
    "missing checkpoint": (["--ckpt_path", "nowhere.ckpt"], "no checkpoint 'nowhere.ckpt'"),
    "nothing to resume": (["--ckpt_path", "last"], "nothing to resume"),
    "weights as checkpoint": (["--ckpt_path", "{files}/nan.safetensors"], "not the checkpoint of a run"),
    # data
    "missing data": (["--data.source", "null", "--data.path", "nowhere"], "there is no data folder 'nowhere'"),
    "empty data": (["--data.source", "null", "--data.path", "{files}/empty"], "no images in"),
    "one class": (["--data.source", "null", "--data.path", "{files}/one"], "only one class"),
    "corrupt image": (
        ["--data.source", "null", "--data.path", "{files}/corrupt", "--data.num_classes", "2"],
        "cat/2.png",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, files, tmp_path, monkeypatch, capsys):
    arguments, reason = CASES[case]
    if arguments[0].startswith("--"):
        recipe = FINETUNE
        base = ["fit", "--config", recipe, "--model.weights", str(pretrained_weights())]
        if case == "corrupt image":
            base = ["fit", "--config", PRETRAIN, "--model.num_classes", "2"]
        arguments = [*base, *arguments]
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    capsys.readouterr()
    assert main([part.format(files=files) for part in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert 1 <= len(lines) <= 2
    assert lines[0].startswith("hwaware: ")
    assert reason in "\n".join(lines)
    assert list(work.iterdir()) == []


def test_what_is_wrong_is_found_in_a_whole_configuration(tmp_path, capsys):
    """A run's own ``config.yaml`` names every key; what is right in it must not be blamed."""
    assert main(["fit", "--config", FINETUNE, "--print_config"]) == 0
    (tmp_path / "config.yaml").write_text(capsys.readouterr().out)
    for wrong, reason in (
        ("--seed_everything=x", "seed_everything: 'x' is not a whole number."),
        ("--ckpt=x", "ckpt is not a key."),
    ):
        assert main(["fit", "--config", str(tmp_path / "config.yaml"), wrong]) == 2
        assert capsys.readouterr().err.startswith(f"hwaware: {reason}")


def test_hub_name_without_a_network(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    capsys.readouterr()
    options = ["--model.name", "resnet18", "--model.pretrained", "true", "--model.num_classes", "null"]
    assert main(["fit", "--config", PRETRAIN, *options]) == 2
    error = capsys.readouterr().err.strip()
    assert "pretrained weights of 'resnet18'" in error and "--model.weights FILE" in error
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_ones_own_that_is_something_else(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_other_classes.py").write_text("class Other: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    capsys.readouterr()
    assert main(["fit", "--config", PRETRAIN, "--data", "my_other_classes.Other"]) == 2
    assert "data: 'my_other_classes.Other' is not a subclass of LightningDataModule: derive" in capsys.readouterr().err
    assert (
        main(["compare", "--config", FINETUNE, "--evaluation.methods", "[{class_path: my_other_classes.Other}]"]) == 2
    )
    assert (
        "evaluation.methods: 'my_other_classes.Other' is not a subclass of Compensation: derive"
        in capsys.readouterr().err
    )


def test_a_module_of_ones_own_that_cannot_be_imported(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_broken_data.py").write_text("from hwaware import Placment\n")
    monkeypatch.syspath_prepend(tmp_path)
    capsys.readouterr()
    assert main(["fit", "--config", PRETRAIN, "--data", "my_broken_data.MyData"]) == 2
    assert "'my_broken_data.MyData' can't be imported: cannot import name 'Placment'" in capsys.readouterr().err
