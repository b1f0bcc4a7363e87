"""Every recipe is found and read by the command it is for."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import yaml
from PIL import Image
from safetensors.torch import save_file

from hwaware.cli.main import main
from hwaware.cli.recipes import with_ancestors
from hwaware.errors import UserError
from tests.command_line import measured, run
from tests.data.test_idx import idx

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "sweeps")  # those: test_sweep.py

#: Where the recipe has several GPUs. Processors without instructions for bf16 would take minutes.
ONE_CPU = ("--trainer.accelerator", "cpu", "--trainer.devices", 1, "--trainer.strategy", "auto")
ONE_CPU += ("--trainer.precision", "32-true")


def parsed(recipe: Path, capsys: pytest.CaptureFixture, *more: str) -> dict:
    """The whole configuration that a recipe stands for."""
    assert main(["fit", "--config", str(recipe), *more, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_there_are_recipes():
    assert len(RECIPES) >= 8


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_parses_and_says_how_to_launch(recipe, capsys):
    config = parsed(recipe, capsys)
    assert config["model"]["class_path"].startswith("hwaware.")
    assert config["trainer"]["max_steps"] > 0 or config["trainer"]["max_epochs"] > 0
    assert re.search(r"^#\s+hwaware (fit|compare|plan) --config recipes/", recipe.read_text(), re.MULTILINE)


@pytest.mark.slow
def test_ablation_differs_from_the_main_recipe_in_what_it_names(capsys):
    folder = RECIPES[0].parent.parent if RECIPES[0].parent.name == "ablation" else RECIPES[0].parent
    main_recipe = parsed(folder / "cifar10_resnet20.yaml", capsys)
    found = {}
    for name in ("none", "plain_noise", "device_noise", "sinh", "retention"):
        config = parsed(folder / "ablation" / f"cifar10_resnet20_{name}.yaml", capsys)
        model = config["model"]["init_args"]
        noise = model["noise"] and model["noise"]["kind"]
        found[name] = (noise, model["hardware"]["encoding"]["kappa"], model["retention"] is not None)
        for key in ("optimizer", "scheduler", "name"):
            assert model[key] == main_recipe["model"]["init_args"][key]
        assert config["data"] == main_recipe["data"]
        clip = 1.0 if name in ("plain_noise", "device_noise") else None  # without it these two diverge
        assert config["trainer"] == main_recipe["trainer"] | {"gradient_clip_val": clip}
        assert config["evaluation"]["networks"] == ["finetuned"]
    assert found == {
        "none": (None, "linear", False),
        "plain_noise": ("gaussian", "linear", False),
        "device_noise": ("device", "linear", False),
        "sinh": ("device", 2.0, False),
        "retention": ("device", 2.0, True),
    }


@pytest.mark.parametrize("recipe", [path for path in RECIPES if "imagenet" in path.stem], ids=lambda path: path.stem)
def test_networks_of_imagenet_learn_from_images_without_borders(recipe, capsys):
    assert parsed(recipe, capsys)["data"]["init_args"]["augment"] == "resized_crop_flip"


@pytest.mark.parametrize("recipe", [path for path in RECIPES if path.parent.name == "compare"], ids=lambda p: p.stem)
def test_our_row_of_vera_plus_is_compared_with_the_method_without(recipe, capsys):
    methods = parsed(recipe, capsys)["evaluation"]["methods"]
    vera = [method["init_args"]["constant"] for method in methods if method["class_path"].endswith("VeraPlus")]
    assert not vera or set(vera) == {True, False}


def write(folder: Path, **recipes: str) -> None:
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)


def test_the_nearer_file_wins(tmp_path):
    write(tmp_path, a="x: 1", b="based_on: a.yaml", c="based_on: b.yaml")
    assert [path.stem for path in with_ancestors(tmp_path / "c.yaml")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("recipes", "reason"),
    [
        ({"a": "based_on: b.yaml", "b": "based_on: a.yaml"}, "builds on itself"),
        ({"a": "based_on: nowhere.yaml"}, "there is no recipe '.*nowhere.yaml' .named by based_on in '.*a.yaml'"),
        ({"a": "based_on: bb.yaml", "b": ""}, r"there is no recipe '.*bb.yaml' .*\. Did you mean 'b.yaml'\?"),
        ({"a": "model: ["}, "is not YAML"),
        ({"a": "just text"}, "not a table of keys"),
    ],
)
def test_wrong_recipes(tmp_path, recipes, reason):
    write(tmp_path, **recipes)
    with pytest.raises(UserError, match=reason):
        with_ancestors(tmp_path / "a.yaml")


def test_a_later_config_and_the_command_line_win(tmp_path, capsys):
    write(tmp_path, more="trainer: {max_steps: 7, log_every_n_steps: 3}")
    recipe = next(path for path in RECIPES if path.stem == "cifar10_resnet20")
    config = parsed(recipe, capsys, "--config", str(tmp_path / "more.yaml"), "--trainer.log_every_n_steps", "5")
    assert (config["trainer"]["max_steps"], config["trainer"]["log_every_n_steps"]) == (7, 5)
    assert config["model"]["init_args"]["hardware"]["device"]["name"] == "reram_cmo"


IMAGENET = [path for path in RECIPES if path.parent.name == "recipes" and path.stem.startswith("imagenet_")]


@pytest.fixture(scope="module")
def few_images(tmp_path_factory):
    """A folder of two classes with training and validation images."""
    folder = tmp_path_factory.mktemp("images")
    for split, n in (("train", 4), ("val", 1)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for number in range(n):
                pixels = np.random.RandomState(number).randint(0, 256, (240, 260, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", IMAGENET, ids=lambda path: path.stem)
def test_imagenet_recipe_runs_two_steps(recipe, few_images, tmp_path):
    """Random weights and a few images, in single precision; nothing is said of its accuracy."""
    name = next(yaml.safe_load(path.read_text())["model"]["init_args"]["name"] for path in with_ancestors(recipe)[::-1])
    save_file(timm.create_model(name, num_classes=2).state_dict(), tmp_path / "random.safetensors")
    run(
        *("fit", "--config", recipe, "--model.weights", tmp_path / "random.safetensors", "--model.num_classes", 2),
        *("--data.source", "folder", "--data.path", few_images, "--data.val_rows", "[0,2]", "--data.batch_size", 2),
        *("--data.num_workers", 0, *ONE_CPU),
        *("--trainer.max_steps", 2, "--trainer.max_epochs", -1, "--trainer.default_root_dir", tmp_path),
        *("--evaluation.n_chips", 1, "--evaluation.ages_s", "[315360000]", "--evaluation.networks", "[finetuned]"),
    )
    folder = tmp_path / recipe.stem / "version_0"
    assert (folder / "model.safetensors").is_file() and len(measured(folder / "rows.csv")) == 1


def test_there_are_the_imagenet_recipes():
    names = ("resnet18", "resnet50", "deit_tiny", "mobilenetv3_large", "mobilenetv3_small")
    assert {path.stem for path in IMAGENET} == {f"imagenet_{name}" for name in names}


LENET = [path for path in RECIPES if path.stem.startswith(("biased_lenet5", "lenet5"))]


@pytest.fixture(scope="module")
def few_digits(tmp_path_factory):
    """A folder with MNIST's four files: ten images of each class to train on, two to test."""
    folder = tmp_path_factory.mktemp("digits")
    for stem, n in (("train", 100), ("t10k", 20)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.random.RandomState(n).randint(0, 256, (n, 28, 28)).astype(np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{stem}-{what}-ubyte").write_bytes(idx(array))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LENET, ids=lambda path: path.stem)
def test_recipe_of_lenet_runs_an_epoch(recipe, few_digits, tmp_path):
    """Random images and weights; nothing is said of its accuracy."""
    save_file(timm.create_model("lenet5").state_dict(), tmp_path / "random.safetensors")
    weights = () if "digital" in recipe.stem else ("--model.weights", tmp_path / "random.safetensors")
    run(
        *("fit", "--config", recipe, *weights, "--data.path", few_digits, "--data.batch_size", 30),
        *("--data.train_rows", "[0,80]", "--data.val_rows", "[80,100]"),
        *("--trainer.max_epochs", 1, "--trainer.default_root_dir", tmp_path, "--evaluation.n_chips", 1),
    )
    folder = tmp_path / recipe.stem / "version_0"
    assert (folder / "model.safetensors").is_file()
    if weights:
        labels = {"conventional": "conventional", "noise": "device_noise", "epoch": "biased_epoch_m20"}
        name = labels.get(recipe.stem.rpartition("_")[2], "biased")
        assert {row.network for row in measured(folder / "rows.csv")} - {"base"} == {name}


@pytest.mark.slow
def test_the_ablation_of_lenet_differs_in_bias_and_noise_alone(capsys):
    found, settings = {}, []
    for recipe in LENET:
        config = parsed(recipe, capsys)
        model = config["model"]["init_args"]
        found[recipe.stem] = (model.pop("bias"), model.pop("noise"))
        if model["hardware"]:
            settings.append((model, config["data"], config["trainer"]))
    assert settings == settings[:1] * 4
    assert {name: bias and bias["percent"] for name, (bias, _) in found.items()} == {
        "biased_lenet5": 100.0,
        "biased_lenet5_conventional": None,
        "biased_lenet5_epoch": 20.0,
        "biased_lenet5_noise": None,
        "lenet5_digital": None,
    }
    assert [name for name, (_, noise) in found.items() if noise] == ["biased_lenet5_noise"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["charan2020_lenet5", "ablation/charan2020_lenet5_vat", "charan2020_vgg16"])
def test_recipe_of_sparse_adaptation_runs_from_the_teacher_to_repaired_chips(recipe, few_images, few_digits, tmp_path):
    small = ["--data.batch_size", 2, "--trainer.max_steps", 2, "--trainer.max_epochs", -1]
    small += ["--trainer.default_root_dir", tmp_path, "--data.val_rows", "[0,2]"]
    digital = "lenet5_digital"
    if "lenet5" in recipe:
        small += ["--data.path", few_digits, "--data.train_rows", "[2,20]"]
    else:
        small += ["--data.path", few_images, "--data.source", "folder", "--data.train_rows", "null"]
        small += ["--model.name", "vgg16_cifar_narrow", "--model.num_classes", 2]
        digital = "charan2020_vgg16_digital"
    run("fit", "--config", FOLDER / f"{digital}.yaml", *small)
    rsa = "{class_path: RandomSparseAdaptation, init_args: {share: 0.05, images: 2, epochs: 1}}"
    run(
        *("fit", "--config", FOLDER / f"{recipe}.yaml", *small, "--evaluation.n_chips", 1),
        *("--model.weights", tmp_path / digital / "version_0", "--evaluation.networks", "[finetuned]"),
        *("--evaluation.methods", f"[{rsa}, {{class_path: ReadVerifyWrite}}]"),
    )
    rows = measured(tmp_path / Path(recipe).name / "version_0" / "rows.csv")
    assert len(rows) == 3 * (2 if "lenet5" in recipe else 1)  # methods and metrics


READERS = {
    "squad2_bert_base": "Bert",
    "squad2_bert_large": "Bert",
    "squad2_minilm": "Bert",
    "squad2_distilbert": "DistilBert",
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", READERS)
def test_recipe_of_a_reader_runs_two_steps(recipe, tiny_reader, tmp_path):
    """A small network of the recipe's architecture, random weights; nothing is said of its answers."""
    import transformers

    vocabulary = transformers.AutoConfig.from_pretrained(tiny_reader / "model").vocab_size
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if READERS[recipe] == "DistilBert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    config = getattr(transformers, f"{READERS[recipe]}Config")(vocab_size=vocabulary, **sizes)
    getattr(transformers, f"{READERS[recipe]}ForQuestionAnswering")(config).save_pretrained(tmp_path / "reader")
    transformers.AutoTokenizer.from_pretrained(tiny_reader / "model").save_pretrained(tmp_path / "reader")
    run(
        *("fit", "--config", FOLDER / f"{recipe}.yaml", "--model.checkpoint", tmp_path / "reader"),
        *("--data.path", tiny_reader / "data", "--data.max_length", 64, "--data.stride", 24, "--data.batch_size", 2),
        *("--data.test_subset", 6, *ONE_CPU),
        *("--trainer.max_steps", 2, "--trainer.max_epochs", -1, "--trainer.default_root_dir", tmp_path),
        *("--trainer.limit_val_batches", 1, "--evaluation.n_chips", 1, "--evaluation.ages_s", "[315360000]"),
        *("--evaluation.networks", "[finetuned]"),
    )
    folder = tmp_path / recipe / "version_0"
    assert (folder / "model.safetensors").is_file() and len(measured(folder / "rows.csv")) == 4


@pytest.mark.slow
def test_recipe_of_a_reader_s_adapters_runs_two_steps(taught_reader, tiny_reader, tmp_path):
    """Cells stay as they were, whatever the adapters learn."""
    recipe = FOLDER / "adapters" / "squad1_minilm.yaml"
    sizes = ("--data.max_length", 64, "--data.stride", 24, "--data.batch_size", 4, "--data.test_subset", "null")
    lengths = ("--trainer.max_steps", 2, "--trainer.limit_val_batches", 1, "--trainer.val_check_interval", 1.0)
    few = ("--data.val_articles", "null", "--evaluation.n_chips", 1, "--evaluation.ages_s", "[315360000]")
    run(
        *("fit", "--config", recipe, "--model.checkpoint", taught_reader),
        *("--data.path", tiny_reader / "data", *sizes, *lengths, *few, "--trainer.default_root_dir", tmp_path),
    )
    (folder,) = tmp_path.glob("squad1_minilm/version_0")
    assert (folder / "adapters.csv").is_file() and (folder / "adapters.safetensors").is_file()
    assert {row.network for row in measured(folder / "rows.csv")} == {"base", "lora"}


def test_there_are_the_recipes_of_readers():
    of_hub = {path.stem for path in RECIPES if path.parent.name == "recipes" and path.stem.startswith("squad2_")}
    assert of_hub == {*READERS, "squad2_tiny", "squad2_tiny_digital"}
