"""Where labelled images come from: scikit-learn's digits, parquet files as the hub has them, folders, MNIST's files.

A source gives splits ("train", "val", "test", those it has); a split gives labels at once and images one by one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from hwaware.data.idx import IdxImages, find_idx
from hwaware.data.labelled import Images, Subset
from hwaware.data.subsets import DIGITS_TEST_SEED, stratified_subset
from hwaware.errors import UserError, nearest
from hwaware.offline import no_retries_without_network

if TYPE_CHECKING:
    import datasets

# Images set aside to calibrate with are what there is to fit on, where there is no training set.
_SPLIT_NAMES = {"train": ("train", "calibration"), "val": ("val", "validation", "valid"), "test": ("test",)}

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")  # CIFAR-100 has coarse ones beside


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


class TableImages(Images):
    """A table with an image column {bytes, path} and a label column, as the hub's data sets have.

    Raises:
        UserError: a column is missing.
    """

    def __init__(self, table: datasets.Dataset, where: str) -> None:
        column = next((c for c in _IMAGE_COLUMNS if c in table.column_names), None)
        label = next((c for c in _LABEL_COLUMNS if c in table.column_names), None)
        if column is None or label is None:
            raise UserError(
                f"{where} has columns {', '.join(table.column_names)}; wanted 'img' or 'image', and 'label'"
            )
        self.labels = np.asarray(table[label][:], dtype=np.int64)
        self.class_names = tuple(getattr(table.features[label], "names", None) or ()) or None
        self.table = table.select_columns([column]).with_format("arrow")
        self.column, self.name = column, where

    def open(self, index: int) -> Image.Image:
        cell = self.table[index][self.column][0].as_py()
        # An image that is not in the table lies beside it, as a file.
        return Image.open(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])

    def where(self, index: int) -> str:
        return f"{self.name}, row {index}"


class ParquetImages(TableImages):
    """Parquet files of one split."""

    def __init__(self, files: Sequence[Path], split: str = "train") -> None:
        import datasets
        import pyarrow.parquet as pq

        self.files = tuple(files)
        try:
            self.rows_of_file = [pq.ParquetFile(file).metadata.num_rows for file in files]
            if sum(self.rows_of_file) == 0:
                raise UserError(f"no images in {files[0]}: it has no rows")
            # memory-mapped, so that large sets stay on disk
            table = datasets.Dataset.from_parquet([str(file) for file in files], split=datasets.NamedSplit(split))
        except UserError:
            raise
        except Exception as error:  # arrow's and datasets' errors have no common base
            names = ", ".join(file.name for file in files)
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"cannot read {names} in {files[0].parent}: {reason}") from error
        super().__init__(table, str(files[0]))

    def where(self, index: int) -> str:
        for file, rows in zip(self.files, self.rows_of_file, strict=True):
            if index < rows:
                return f"{file}, row {index}"
            index -= rows
        raise IndexError(index)


class FolderImages(Images):
    """One folder per class, the classes in alphabetical order."""

    def __init__(self, folder: Path) -> None:
        from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

        try:
            names, classes = find_classes(str(folder))
            samples = make_dataset(str(folder), classes, extensions=IMG_EXTENSIONS)
        except FileNotFoundError as error:
            raise UserError(f"no images in {folder}: {error}") from error
        self.files = [path for path, _ in samples]
        self.labels = np.asarray([label for _, label in samples], dtype=np.int64)
        self.class_names = tuple(names)

    def open(self, index: int) -> Image.Image:
        return Image.open(self.files[index])

    def where(self, index: int) -> str:
        return str(self.files[index])


@dataclass(frozen=True)
class Source:
    """A named data set with the splits that it has, opened when asked for."""

    name: str
    splits: Mapping[str, Callable[[], Images]]


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
        raise UserError(f"no such data folder: {folder}")
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
    return Source("digits", {"train": lambda: Subset(digits, train), "test": lambda: Subset(digits, test)})


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
    return Source(name.rpartition("/")[2], splits)


def _open_parquet(folder: Path) -> Source:
    splits = {}
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            for pattern in (f"{name}.parquet", f"{name}-*.parquet", f"data/{name}-*.parquet"):
                if split not in splits and (files := sorted(folder.glob(pattern))):
                    splits[split] = partial(ParquetImages, files, split)
    return Source(folder.name, splits)


def _open_folder(folder: Path) -> Source:
    splits = {}
    for split, names in _SPLIT_NAMES.items():
        for name in names:
            if split not in splits and (folder / name).is_dir():
                splits[split] = partial(FolderImages, folder / name)
    return Source(folder.name, splits)


def _open_idx(folder: Path) -> Source:
    splits = {split: partial(IdxImages, files) for split, files in find_idx(folder).items()}
    return Source(folder.name, splits)


#: Sources that a folder can be, in the order in which it is taken for one, and what it then holds.
_IN_FOLDERS = {
    "parquet": "train.parquet, test.parquet (or data/train-00000-of-00001.parquet …)",
    "folder": "folders train/CLASS and test/CLASS",
    "idx": "train-images-idx3-ubyte and the like",
}

SOURCES: dict[str, Callable[[Any], Source]] = {
    "digits": _open_digits,
    "hub": _open_hub,
    "parquet": _open_parquet,
    "folder": _open_folder,
    "idx": _open_idx,
}
