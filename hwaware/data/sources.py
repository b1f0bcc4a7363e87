"""Where labelled images come from: scikit-learn's digits, parquet files as the hub has them, folders, MNIST's files.

A source gives splits ("train", "val", "test", those it has); a split gives labels at once and images one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image

from hwaware.data.decoding import open_image
from hwaware.data.idx import IdxImages, find_idx
from hwaware.data.labelled import Images, Subset
from hwaware.data.subsets import DIGITS_TEST_SEED, FLAT_TEST_SEED, stratified_subset
from hwaware.data.tables import ParquetImages, TableImages, words_in
from hwaware.errors import UserError, nearest, nearest_path
from hwaware.system.offline import no_retries_without_network

# Images set aside to calibrate with are what there is to fit on, where there is no training set.
_SPLIT_NAMES = {"train": ("train", "calibration"), "val": ("val", "validation", "valid"), "test": ("test",)}


class DigitsImages(Images):
    """The 1,797 handwritten digits (8×8, 17 grey levels) that scikit-learn carries."""

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        self.pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
        self.labels = digits.target.astype(np.int64)
        self.class_names = tuple(str(name) for name in digits.target_names)

    def open(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def where(self, index: int) -> str:
        return f"digit {index}"


#: Of image files in folders: torchvision's, and what else browsers write. Of a film it is the first image.
_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".jfif")


class FolderImages(Images):
    """One folder per class, the classes in alphabetical order. Hidden files and folders are passed by.

    Args:
        folder: of the split.
        names: classes of all splits; None: those that have a folder here.
    """

    def __init__(self, folder: Path, names: Sequence[str] | None = None) -> None:
        from torchvision.datasets.folder import make_dataset

        names = sorted(class_folders(folder)) if names is None else names
        here = {name: number for number, name in enumerate(names) if (folder / name).is_dir()}

        def is_image(path: str) -> bool:
            within = Path(path).relative_to(folder)
            return path.lower().endswith(_ENDINGS) and not any(part.startswith(".") for part in within.parts)

        samples = make_dataset(str(folder), here, is_valid_file=is_image, allow_empty=True) if here else []
        empty = [name for name, number in here.items() if number not in {label for _, label in samples}]
        if not samples or empty:
            where = folder / empty[0] if empty and samples else folder
            raise UserError(f"no images in {where}: wanted {folder.name}/CLASS/… with {', '.join(_ENDINGS)}")
        self.files = [path for path, _ in samples]
        self.labels = np.asarray([label for _, label in samples], dtype=np.int64)
        self.class_names = tuple(names)

    def open(self, index: int) -> Image.Image:
        return open_image(self.files[index])

    def where(self, index: int) -> str:
        return str(self.files[index])


def holds_images(folder: Path) -> bool:
    """Whether image files lie in a folder itself."""
    return any(file.suffix.lower() in _ENDINGS for file in folder.iterdir() if not file.name.startswith("."))


def class_folders(folder: Path) -> set[str]:
    """Names of the classes that have a folder in a split's."""
    return {one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith((".", "__"))}


def shared_names(found: Mapping[str, set[str]], where: str) -> tuple[str, ...]:
    """The classes of all splits, sorted; a word about what a split lacks.

    Args:
        found: each split's.
        where: they are, for messages.

    Raises:
        UserError: a split has a class that training lacks, so that it can't be learnt.
    """
    names = tuple(sorted(set().union(*found.values())))
    for split, own in found.items():
        lacking = [name for name in names if name not in own]
        if lacking and split == "train":
            raise UserError(
                f"{where} has no training images of {', '.join(lacking[:5])}, which other splits have. "
                f"{nearest(lacking[0], own)}".rstrip()
            )
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            rank_zero_warn(f"the {split} images of {where} have none of {', '.join(lacking[:5])}{more}.")
    return names


@dataclass(frozen=True)
class Source:
    """A named data set with the splits that it has, opened when asked for.

    Attributes:
        where: it is from, for people, where that is more than a path.
    """

    name: str
    splits: Mapping[str, Callable[[], Images]]
    where: str | None = None


def open_source(source: str | None, path: str | None) -> Source:
    """The data set at ``path``; ``source`` says what it is, None finds out.

    Raises:
        UserError: unknown source; the folder does not exist or holds no data.
    """
    if source is not None and source not in SOURCES:
        raise UserError(f"unknown data source '{source}'. {nearest(source, SOURCES)}")
    if path is None:
        if source in (None, "digits"):
            return _open_digits(None)
        raise UserError(f"data source '{source}' needs the folder that holds it: --data.path DIR")
    if source == "hub":
        return _open_hub(path)
    folder = Path(path)
    if source == "digits":
        raise UserError(f"data source 'digits' has no path (given: {path})")
    if not folder.is_dir():
        raise UserError(f"there is no data folder '{folder}'. {nearest_path(folder)}".rstrip())
    for kind in _IN_FOLDERS if source is None else (source,):
        if (found := SOURCES[kind](folder)).splits:
            # "cifar10/" and "." have no last part of their own
            return replace(found, name=folder.resolve().name)
    if source is None:
        raise UserError(f"no images in {folder}: wanted {', or '.join(_IN_FOLDERS.values())}")
    others = [kind for kind in _IN_FOLDERS if SOURCES[kind](folder).splits]
    instead = f"; there are images of source '{others[0]}'" if others else ""
    raise UserError(f"no images of source '{source}' in {folder}: wanted {_IN_FOLDERS[source]}{instead}")


def _open_digits(_: Any) -> Source:
    digits = DigitsImages()
    test = stratified_subset(digits.labels, len(digits) // 5, DIGITS_TEST_SEED)
    train = np.setdiff1d(np.arange(len(digits)), test)
    splits = {"train": lambda: Subset(digits, train), "test": lambda: Subset(digits, test)}
    return Source("digits", splits, "from scikit-learn")


def from_hub(what: str, load: Callable[[], Any], local: str) -> Any:
    """What ``load`` gets from the Hugging Face hub, or from its cached copy.

    Raises:
        UserError: it can't be had; ``local`` are the options for a copy of one's own.
    """
    try:
        with no_retries_without_network():
            return load()
    except Exception as error:  # the hub's, the network's and the file formats' errors have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot get {what} from the hub: {reason}\nWithout a network, give a local copy: {local}"
        ) from error


def _open_hub(name: str) -> Source:
    """A data set of the Hugging Face hub, or its cached copy."""
    import datasets

    local = "--data.source parquet (or folder) --data.path DIR"
    available = from_hub(f"the data set '{name}'", lambda: datasets.get_dataset_split_names(name), local)

    def images(split: str) -> Images:
        table = from_hub(f"the {split} images of '{name}'", lambda: datasets.load_dataset(name, split=split), local)
        return TableImages(table, f"{name} ({split})")

    splits = {}
    for split, names in _SPLIT_NAMES.items():
        theirs = next((one for one in names if one in available), None)
        if theirs is not None:
            splits[split] = partial(images, theirs)
    if not splits:
        raise UserError(f"the data set '{name}' has no split to fit or test on: it has {', '.join(available)}.")
    return Source(name.rpartition("/")[2], splits, f"{name} of the hub")


def _open_parquet(folder: Path) -> Source:
    found: dict[str, list[Path]] = {}
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            for pattern in (f"{name}.parquet", f"{name}-*.parquet", f"data/{name}-*.parquet"):
                if split not in found and (files := sorted(folder.glob(pattern))):
                    found[split] = files

    @cache
    def words() -> tuple[str, ...]:
        return shared_names({split: words_in(files) for split, files in found.items()}, str(folder))

    return Source(folder.name, {split: partial(ParquetImages, files, split, words) for split, files in found.items()})


def _open_folder(folder: Path) -> Source:
    """``train/CLASS/…`` and ``test/CLASS/…``; a folder of classes alone is split, always alike."""
    found: dict[str, Path] = {}
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            one = folder / name
            # "train" may also be a class, among vehicles
            if split not in found and one.is_dir() and (class_folders(one) or not holds_images(one)):
                found[split] = one
    if not found:
        return _open_flat(folder)

    @cache
    def classes() -> tuple[str, ...]:
        return shared_names({split: class_folders(one) for split, one in found.items()}, str(folder))

    def images(split: str) -> Images:
        return FolderImages(found[split], classes())

    return Source(folder.name, {split: partial(images, split) for split in found})


def _open_flat(folder: Path) -> Source:
    """``CLASS/…`` without splits: a fixed stratified fifth of all images is for testing."""
    classes = [name for name in class_folders(folder) if holds_images(folder / name)]
    if len(classes) < 2:
        return Source(folder.name, {})

    @cache
    def whole() -> tuple[Images, np.ndarray]:
        images = FolderImages(folder, sorted(classes))
        counts = np.bincount(images.labels)
        if counts.min() < 3:
            few = sorted(classes)[int(counts.argmin())]
            raise UserError(
                f"{folder / few} has {counts.min()} images, too few to split for training, validation and test: add "
                "some, or make folders train/CLASS and test/CLASS."
            )
        return images, stratified_subset(images.labels, max(1, len(images) // 5), FLAT_TEST_SEED)

    def images(split: str) -> Images:
        stored, test = whole()
        return Subset(stored, test if split == "test" else np.setdiff1d(np.arange(len(stored)), test))

    splits = {split: partial(images, split) for split in ("train", "test")}
    return Source(folder.name, splits, f"{folder}, a fixed fifth of each class for testing")


def _open_idx(folder: Path) -> Source:
    splits = {split: partial(IdxImages, files) for split, files in find_idx(folder).items()}
    return Source(folder.name, splits)


#: Sources that a folder can be, in the order in which it is taken for one, and what it then holds.
_IN_FOLDERS = {
    "parquet": "train.parquet, test.parquet (or data/train-00000-of-00001.parquet …)",
    "folder": "folders train/CLASS and test/CLASS (or CLASS alone)",
    "idx": "train-images-idx3-ubyte and the like",
}

SOURCES: dict[str, Callable[[Any], Source]] = {
    "digits": _open_digits,
    "hub": _open_hub,
    "parquet": _open_parquet,
    "folder": _open_folder,
    "idx": _open_idx,
}
