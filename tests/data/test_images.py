"""Image data: sources, splits, preprocessing, and what is said about bad data."""

import io
import os
import random
import shutil

import numpy as np
import pyarrow
import pytest
import timm
import torch
from PIL import Image
from pyarrow import parquet
from torch.utils.data import default_collate
from torchvision import transforms

from hwaware.data import ImageData, ImageInputs, datasets
from hwaware.data.sources import open_source
from hwaware.data.subsets import stratified_subset
from hwaware.data.transforms import AUGMENTATIONS, eval_transform, train_transform
from hwaware.errors import UserError
from hwaware.models import build_model

CONFIG = dict(
    input_size=(3, 8, 8),
    interpolation="bicubic",
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.4),
    crop_pct=1.0,
    crop_mode="center",
)
NAMES = ["ant", "bee", "cat"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def pixels(n, size=8, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (n, size, size, 3)).astype(np.uint8)


def encoded(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def write_parquet(file, images, labels, names=NAMES, column="img"):
    """As the hub writes them: image bytes and, if ``names``, the classes in the schema."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Image as ImageFeature

    label = ClassLabel(names=names) if names else Value("int64")
    rows = {column: [{"bytes": b, "path": None} for b in images], "label": list(labels)}
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=Features({column: ImageFeature(), "label": label})).to_parquet(file)


def parquet_folder(folder, n_train=30, n_test=12, **kwargs):
    for seed, (split, n) in enumerate({"train": n_train, "test": n_test}.items()):
        images = [encoded(a) for a in pixels(n, seed=seed)]
        write_parquet(folder / f"{split}.parquet", images, np.arange(n) % 3, **kwargs)
    return folder


def image_folder(folder, splits=("train", "test"), n=12):
    for seed, split in enumerate(splits):
        for i, array in enumerate(pixels(n, seed=seed)):
            file = folder / split / NAMES[i % 3] / f"{i:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)
    return folder


def ready(stage=None, classes=None, config=CONFIG, **kwargs):
    data = ImageData(**kwargs)
    data.inputs = config and ImageInputs(config, classes)
    data.setup(stage)
    return data


def labels(loader):
    return torch.cat([y for _, y in loader])


def inputs(loader):
    return torch.cat([x for x, _ in loader])


# --- sources and splits


def test_digits_are_the_default():
    data = ready()
    assert (data.dataset_name, data.num_classes, data.class_names) == ("digits", 10, tuple("0123456789"))
    assert (data.n_train, data.n_val, data.n_test) == (1295, 143, 359)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        counts = torch.bincount(labels(loader))
        assert counts.max() - counts.min() <= 2  # stratified
    x, _ = next(iter(data.train_dataloader()))
    assert x.shape == (128, 3, 8, 8) and x.dtype == torch.float32


def test_digits_splits_are_disjoint_and_never_change():
    data = ready()
    rows = {split: d.images.rows for split, d in data._datasets.items() if split != "train"}
    rows["train"] = data._datasets["train"].images.images.rows  # decoded subset of a subset
    train_pool = data._stored("train").rows
    train, val = train_pool[rows["train"]], train_pool[rows["val"]]
    assert sorted([*train, *val, *rows["test"]]) == list(range(1797))
    assert rows["test"][:6].tolist() == FIRST_TEST_DIGITS and val[:6].tolist() == FIRST_VALIDATION_DIGITS


def test_digits_are_upscaled_by_the_networks_own_transform():
    config = CONFIG | dict(input_size=(3, 20, 20))
    data = ready("test", config=config)
    image = data._datasets["test"].images.rgb(4)
    assert image.size == (8, 8)
    assert torch.equal(data.test_dataloader().dataset[4][0], timm.data.create_transform(**config)(image))


@pytest.mark.parametrize("column", ["img", "image"])
@pytest.mark.parametrize("source", ["parquet", None])
def test_parquet(tmp_path, column, source):
    data = ready(source=source, path=str(parquet_folder(tmp_path / "insects", column=column)), train_rows=[0, 21])
    assert (data.dataset_name, data.class_names) == ("insects", tuple(NAMES))
    assert (data.n_train, data.n_val, data.n_test) == (21, 9, 12)  # validation: the rows that train_rows leaves
    mean, std = (torch.tensor(CONFIG[k])[:, None, None] for k in ("mean", "std"))
    for x, array in zip(inputs(data.test_dataloader()), pixels(12, seed=1), strict=True):
        assert torch.allclose(x, (torch.from_numpy(array).permute(2, 0, 1) / 255 - mean) / std, atol=1e-6)
    assert labels(data.test_dataloader()).tolist() == [i % 3 for i in range(12)]


def test_parquet_shards_with_validation_and_test(tmp_path):
    for split, shards in {"train": 2, "validation": 1, "test": 1}.items():
        for i in range(shards):
            images = [encoded(a) for a in pixels(6, seed=i)]
            write_parquet(tmp_path / f"data/{split}-{i:05d}-of-{shards:05d}.parquet", images, [0, 1, 2] * 2)
    data = ready(path=str(tmp_path))
    assert (data.n_train, data.n_val, data.n_test) == (12, 6, 6)
    assert (np.asarray(data._datasets["train"].images.rgb(7)) == pixels(6, seed=1)[1]).all()


def test_folder(tmp_path):
    data = ready(path=str(image_folder(tmp_path, ("train", "val"))))
    assert data.class_names == tuple(NAMES)
    # the only held-out set is the test set; validation is a tenth of the training images
    assert (data.n_train, data.n_val, data.n_test) == (11, 1, 12)
    data = ready(path=str(image_folder(tmp_path, ("train", "val", "test"))))
    assert (data.n_train, data.n_val, data.n_test) == (12, 12, 12)


def test_name_given_and_name_of_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(parquet_folder(tmp_path / "insects"))
    assert ready("test", path=".").dataset_name == "insects"
    assert ready("test", path=".", name="bugs").dataset_name == "bugs"


def test_only_what_a_stage_needs(tmp_path):
    folder = parquet_folder(tmp_path)
    (folder / "train.parquet").unlink()
    data = ready("test", path=str(folder))
    assert (data.n_train, data.n_val, data.n_test) == (0, 0, 12)
    with pytest.raises(UserError, match="no 'train' images"):
        data.setup("fit")


def test_rows_to_validate_on():
    data = ready("fit", val_rows=[100, 150])
    assert (data.n_train, data.n_val) == (1438 - 50, 50)
    data = ready("fit", train_rows=[0, 64], val_rows=[100, 150])
    assert (data.n_train, data.n_val) == (64, 50)


def test_subset_is_stratified_fixed_and_nested():
    whole = np.repeat(np.arange(4), [400, 200, 100, 7])
    subset = stratified_subset(whole, 101, seed=5)
    assert np.array_equal(subset, stratified_subset(whole, 101, seed=5))
    assert not np.array_equal(subset, stratified_subset(whole, 101, seed=6))
    assert np.abs(np.bincount(whole[subset], minlength=4) - np.array([400, 200, 100, 7]) * 101 / 707).max() <= 1
    assert set(stratified_subset(whole, 50, seed=5)) < set(subset)
    assert np.array_equal(stratified_subset(whole, 707, seed=5), np.arange(707))

    data = ready("test", test_subset=100)
    assert data.n_test == 100 and torch.bincount(labels(data.test_dataloader())).tolist() == [10] * 10


# --- preprocessing


def test_images_of_the_networks_size_are_only_normalised():
    """Bit for bit ToTensor and Normalize: nothing is resampled."""
    config = timm.data.resolve_model_data_config(build_model("resnet20_cifar"))
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(config["mean"], config["std"])])
    for array in pixels(20, size=32):
        image = Image.fromarray(array)
        assert torch.equal(eval_transform(config)(image), plain(image))
        assert torch.equal(train_transform(config, "none")(image), plain(image))


def test_augmentations():
    image = Image.fromarray(pixels(1, size=16)[0])
    config = CONFIG | dict(input_size=(3, 16, 16))
    plain = eval_transform(config)(image)
    fill = (torch.zeros(3) - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    padded = fill[:, None, None].repeat(1, 20, 20)  # an eighth of 16 on each side
    padded[:, 2:18, 2:18] = plain
    shifts = [padded[:, i : i + 16, j : j + 16] for i in range(5) for j in range(5)]
    mirrored = [x.flip(2) for x in shifts]

    def drawn(augment):
        return [train_transform(config, augment)(image) for _ in range(60)]

    def within(x, options):
        return any(torch.allclose(x, option, atol=1e-6) for option in options)

    assert all(within(x, shifts) for x in drawn("crop"))
    crops = drawn("crop_flip")
    assert all(within(x, shifts + mirrored) for x in crops)
    assert 10 < sum(within(x, mirrored) for x in crops) < 50
    resized = drawn("resized_crop_flip")
    assert all(x.shape == (3, 16, 16) for x in resized)
    assert sum(within(x, shifts + mirrored) for x in resized) < 10  # the whole image may be drawn


STRONG = [{"auto_augment": "rand-m9-mstd0.5-inc1"}, {"auto_augment": "augmix-m5-w4"}, {"auto_augment": "original"}]
STRONG += [{"color_jitter": 0.4}, {"random_erasing": 1.0}]


@pytest.mark.parametrize("strong", STRONG, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.parametrize("augment", ["none", "crop_flip", "resized_crop_flip"])
def test_strong_augmentation_follows_from_the_key(augment, strong):
    """The same key gives the same image, whatever the generators did before; another one another."""
    plain, augmented = (ready(source="digits", augment=augment, **options) for options in ({}, strong))
    found = []
    for key in (11, 12, 13, 11):
        found.append(augmented._datasets["train"][3, key][0])
        torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[1]) or not torch.equal(found[1], found[2])
    assert any(
        not torch.equal(x, plain._datasets["train"][3, key][0]) for x, key in zip(found, (11, 12, 13), strict=False)
    )
    assert torch.equal(augmented._datasets["test"][0][0], plain._datasets["test"][0][0])


@pytest.mark.parametrize("policy", ["rand-m10-n15-p1-inc1", "augmix-m10-w8-d8", "v0"])
def test_policies_at_full_strength(policy):
    """timm's own fail now and then: Pillow 13 takes no 0 bits."""
    image, transform = Image.fromarray(pixels(1, size=8)[0]), train_transform(CONFIG, "none", policy)
    for _ in range(60):
        assert transform(image).isfinite().all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"auto_augment": "rand-x9"}, "auto_augment 'rand-x9' is not timm's"),
        ({"auto_augment": "randd"}, "auto_augment 'randd' is not timm's"),
        ({"color_jitter": 0.0}, "color_jitter=0.0"),
        ({"random_erasing": 1.5}, "random_erasing=1.5"),
    ],
)
def test_wrong_strong_augmentation(options, reason):
    with pytest.raises(UserError, match=reason):
        ImageData(**options)


def test_small_sets_are_decoded_once_and_large_ones_when_used(tmp_path, monkeypatch):
    folder = str(parquet_folder(tmp_path))
    small = ready(path=folder, augment="crop_flip")
    monkeypatch.setattr(datasets, "CACHE_BYTES", 1000)
    large = ready(path=folder, augment="crop_flip")
    assert small._datasets["test"].inputs is not None and large._datasets["test"].inputs is None
    opened = []
    monkeypatch.setattr("hwaware.data.tables.TableImages.open", lambda *_: opened.append(1))
    for _ in small.test_dataloader():
        pass
    small._datasets["train"][0, 1]
    assert not opened
    monkeypatch.undo()
    for workers in (0, 2):
        large.num_workers = workers
        assert torch.equal(inputs(small.test_dataloader()), inputs(large.test_dataloader()))
    for item in ((3, 11), (3, 12)):  # (index, key)
        a, b = (default_collate([d._datasets["train"][item]]) for d in (small, large))
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_images_of_several_sizes(tmp_path):
    folder = image_folder(tmp_path)
    Image.fromarray(pixels(1, size=11)[0]).save(folder / "train" / "ant" / "99.png")
    Image.fromarray(pixels(1, size=11)[0]).convert("L").save(folder / "test" / "ant" / "99.png")
    data = ready(path=str(folder), batch_size=4)
    assert inputs(data.train_dataloader()).shape == (12, 3, 8, 8)
    assert inputs(data.test_dataloader()).shape == (13, 3, 8, 8)


# --- what is said about bad data


def said(match, stage=None, classes=None, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        ready(stage, classes, **kwargs)
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def test_unknown_names():
    said("unknown data source 'parqet'.* 'parquet'", source="parqet")
    said("unknown augmentation 'crop_flp'.* 'crop_flip'", augment="crop_flp")
    said("needs the folder.*--data.path", source="parquet")
    said("'digits' has no path", source="digits", path="/tmp")
    said("batch_size=0 is below 1", batch_size=0)
    said("num_workers=1000000000 must be at most 1,000", num_workers=10**9)


def test_missing_and_empty_folders(tmp_path):
    assert str(tmp_path / "none") in said("there is no data folder", path=str(tmp_path / "none"))
    assert str(tmp_path) in said("no images in", path=str(tmp_path))
    assert str(tmp_path) in said("no images of source 'folder' in", path=str(tmp_path), source="folder")
    (tmp_path / "train" / "ant").mkdir(parents=True)
    assert str(tmp_path / "train") in said("no images in", path=str(tmp_path))
    parquet_folder(tmp_path / "p", n_test=0)
    said("no images in .*test.parquet: it has no rows", path=str(tmp_path / "p"))
    said(
        "wanted train-images-idx3-ubyte .*; there are images of source 'parquet'",
        path=str(tmp_path / "p"),
        source="idx",
    )


def test_one_class(tmp_path):
    write_parquet(tmp_path / "train.parquet", [encoded(a) for a in pixels(5)], [1] * 5)
    said(r"only one class \(bee\)", "fit", path=str(tmp_path))
    for i in range(2):
        (tmp_path / "f" / "train" / "ant").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(1)[0]).save(tmp_path / "f" / "train" / "ant" / f"{i}.png")
    said(r"only one class \(ant\)", "fit", path=str(tmp_path / "f"))


def test_number_of_classes(tmp_path):
    folder = str(parquet_folder(tmp_path / "named"))
    said("has 3 classes, the network 10 outputs", path=folder, classes=10)
    ready(path=folder, classes=3)
    # without names the files only show the classes that occur
    folder = str(parquet_folder(tmp_path / "unnamed", names=None))
    said("has 3 classes, the network 10 outputs.*data.num_classes", path=folder, classes=10)
    assert ready(path=folder, classes=10, num_classes=10).num_classes == 10
    said("label 2, and num_classes=2", path=folder, num_classes=2)


def test_labels_that_are_not_public(tmp_path):
    write_parquet(tmp_path / "test.parquet", [encoded(a) for a in pixels(3)], [-1] * 3, names=None)
    said("labels below 0", "test", path=str(tmp_path))


def test_splits_with_different_classes(tmp_path):
    folder = image_folder(tmp_path)
    (folder / "test" / "bee").rename(folder / "test" / "beee")
    said("no training images of beee, which other splits have. Did you mean 'bee'", path=str(folder))
    write_parquet(tmp_path / "p" / "train.parquet", [encoded(a) for a in pixels(3)], [0, 1, 2])
    write_parquet(tmp_path / "p" / "test.parquet", [encoded(a) for a in pixels(3)], [0, 1, 2], names=["a", "b", "c"])
    said("different classes", path=str(tmp_path / "p"))


def test_a_class_that_only_training_has_is_named(tmp_path):
    folder = image_folder(tmp_path)
    shutil.rmtree(folder / "test" / "ant")
    with pytest.warns(UserWarning, match="the test images of .* have none of ant"):
        data = ready(path=str(folder))
    assert data.class_names == tuple(NAMES) and set(labels(data.test_dataloader()).tolist()) == {1, 2}


def test_hidden_files_and_folders_are_no_images(tmp_path):
    folder = image_folder(tmp_path)
    for hidden in ("train/.ipynb_checkpoints/1.png", "train/ant/.ipynb_checkpoints/1.png", "test/__MACOSX/._1.png"):
        (folder / hidden).parent.mkdir(parents=True)
        Image.fromarray(pixels(1)[0]).save(folder / hidden)
    for file in ("train/.DS_Store", "train/ant/.DS_Store", "train/ant/._00.png"):
        (folder / file).write_bytes(b"no image")
    data = ready(path=str(folder))
    assert data.class_names == tuple(NAMES) and len(data.origin.splits["train"]()) == 12


def words_parquet(file, words, image="image", label="label", struct=True):
    images = [encoded(a) for a in pixels(len(words))]
    values = [{"bytes": one, "path": None} for one in images] if struct else images
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table({image: values, label: words, "site": ["x"] * len(words)}), file)


@pytest.mark.parametrize("dictionary", [False, True])
def test_labels_as_words(tmp_path, dictionary):
    """Classes by sorted name, of all splits: the test set alone has them in the same order."""
    for split, words in {"train": ["cat", "ant", "bee", "ant"], "test": ["cat", "ant", "cat"]}.items():
        words_parquet(tmp_path / f"{split}.parquet", pyarrow.array(words).dictionary_encode() if dictionary else words)
    with pytest.warns(UserWarning, match="test images of .* have none of bee"):
        data = ready("test", path=str(tmp_path))
    assert data.class_names == tuple(NAMES) and labels(data.test_dataloader()).tolist() == [2, 0, 2]
    assert open_source(None, str(tmp_path)).splits["train"]().labels.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("values", [["2", "0", "10"], [2.0, 0.0, 10.0], [2, 0, 10]])
def test_labels_that_are_numbers_however_written(tmp_path, values):
    words_parquet(tmp_path / "test.parquet", values)
    assert open_source(None, str(tmp_path)).splits["test"]().labels.tolist() == [2, 0, 10]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["ant", None, "bee", None], "test.parquet has no label in row 1 and 1 more"),
        ([0, None, 1], "test.parquet has no label in row 1:"),
        ([0.0, float("nan"), 1.0], "test.parquet has no label in row 1:"),
        ([0.5, 1.0], "has label 0.5: classes are whole numbers"),
        ([[0], [1]], "has the column label of type list"),
    ],
)
def test_labels_that_are_missing_or_none(tmp_path, values, reason):
    words_parquet(tmp_path / "test.parquet", values)
    said(reason, "test", path=str(tmp_path))


@pytest.mark.parametrize(("image", "label"), [("picture", "class"), ("jpg", "cls"), ("scan", "target")])
@pytest.mark.parametrize("struct", [False, True])
def test_other_usual_columns_and_raw_bytes(tmp_path, image, label, struct):
    if image == "scan" and struct:
        pytest.skip("a name that is not known is recognised by its bytes")
    words_parquet(tmp_path / "test.parquet", [0, 1, 2], image, label, struct)
    data = ready("test", path=str(tmp_path))
    assert (np.asarray(data._datasets["test"].images.rgb(1)) == pixels(3)[1]).all()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_corrupt_image_in_a_folder(tmp_path, monkeypatch, large, num_workers):
    file = image_folder(tmp_path) / "test" / "bee" / "04.png"
    file.write_bytes(file.read_bytes()[:60])
    if not large:
        message = said("cannot read the image", path=str(tmp_path))
    else:
        monkeypatch.setattr(datasets, "CACHE_BYTES", 0)
        data = ready(path=str(tmp_path), num_workers=num_workers)
        with pytest.raises(UserError) as error:
            list(data.test_dataloader())
        message = str(error.value)
        assert message.startswith("cannot read the image") and len(message.splitlines()) == 1
    assert str(file) in message


def test_a_pipe_in_an_images_place_is_not_waited_for(tmp_path):
    file = image_folder(tmp_path) / "test" / "bee" / "04.png"
    file.unlink()
    os.mkfifo(file)
    assert said("cannot read the image in .* is not a regular file", path=str(tmp_path)).count("\n") == 0


def test_corrupt_image_in_a_shard(tmp_path):
    for i in range(2):
        images = [encoded(a) for a in pixels(4)]
        if i == 1:
            images[2] = b"not an image"
        write_parquet(tmp_path / f"test-{i:05d}-of-00002.parquet", images, [0, 1, 2, 0])
    said(f"{tmp_path}/test-00001-of-00002.parquet, row 2", "test", path=str(tmp_path))


def test_unreadable_parquet(tmp_path):
    file = parquet_folder(tmp_path) / "test.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    said("cannot read test.parquet", "test", path=str(tmp_path))
    write_parquet(file, [encoded(a) for a in pixels(3)], [0, 1, 2], column="scan")
    table = parquet.read_table(file).drop_columns("scan")
    parquet.write_table(table.replace_schema_metadata(), file)
    said("has columns label; wanted", "test", path=str(tmp_path))


def test_subsets_larger_than_the_data():
    said("test_subset=360 must lie in 1 … 359", test_subset=360)
    said("test_subset=0 must lie in 1 … 359", test_subset=0)
    for rows in ([0, 1439], [5, 5], [-1, 5], [3]):
        said(r"train_rows=\[.*1438 training images", train_rows=rows)


def test_preprocessing_must_be_known():
    said("ImageData does not know the network's preprocessing: .*data.inputs = ImageInputs", config=None)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmentation_depends_only_on_the_key(augment):
    dataset = ready("fit", augment=augment, config=CONFIG | dict(input_size=(3, 16, 16)))._datasets["train"]
    first = dataset[5, 99][0]
    torch.rand(3)
    assert torch.equal(dataset[5, 99][0], first)
    others = [dataset[5, key][0] for key in range(8)]
    assert all(torch.equal(o, first) for o in others) == (augment == "none")


def test_cifar10_as_the_hub_has_it(shared_dir):
    source = open_source(None, str(shared_dir / "data/cifar10"))
    assert source.name == "cifar10" and set(source.splits) == {"train", "test"}
    images = source.splits["test"]()
    assert len(images) == 10_000 and images.class_names[images.labels[0]] == "cat"
    assert images.rgb(0).size == (32, 32)
    subset = stratified_subset(images.labels, 2000, 1)
    assert np.bincount(images.labels[subset]).tolist() == [200] * 10


FIRST_TEST_DIGITS = [2, 3, 6, 8, 15, 19]
FIRST_VALIDATION_DIGITS = [7, 11, 20, 46, 51, 53]


@pytest.fixture
def hub(monkeypatch):
    """The hub's client with one data set, whose splits are those that are given."""
    import datasets

    table = datasets.Dataset.from_dict(
        {"image": pixels(12), "label": np.arange(12) % 3},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}),
    )
    asked = []

    def give(*splits):
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: list(splits))
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or table)
        return asked

    return give


def test_a_data_set_of_the_hub(hub):
    asked = hub("train", "validation")
    data = ready(source="hub", path="them/theirs", batch_size=2)
    assert data.dataset_name == "theirs" and data.class_names == tuple(NAMES)
    assert sorted(set(asked)) == [("them/theirs", "train"), ("them/theirs", "validation")]  # each when it is needed
    assert data.n_test == 12 and next(iter(data.train_dataloader()))[0].shape[0] == 2


def test_a_data_set_of_the_hub_without_a_split_to_use(hub):
    hub("everything")
    with pytest.raises(UserError, match="has no split to fit or test on: it has everything"):
        ready(source="hub", path="them/theirs")


def test_a_name_on_the_hub_without_a_network(monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'them/theirs' on the Hub")

    monkeypatch.setattr(datasets, "get_dataset_split_names", offline)
    reason = r"cannot get the data set 'them/theirs' from the hub: Couldn't(.|\n)*--data.path DIR"
    with pytest.raises(UserError, match=reason):
        ready(source="hub", path="them/theirs")
