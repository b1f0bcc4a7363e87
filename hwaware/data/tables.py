"""Labelled images in tables, as parquet files and the hub's data sets have them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from hwaware.data.decoding import open_image
from hwaware.data.labelled import Images
from hwaware.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

#: The first of them that is there; CIFAR-100 has coarse labels beside the fine ones.
_IMAGE_COLUMNS = ("img", "image", "images", "picture", "photo", "jpg", "jpeg", "png", "image_bytes", "bytes")
_LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "target", "category", "class_name", "cls", "y")


class TableImages(Images):
    """A table with a column of images, {bytes, path} or bytes, and one of labels: numbers or words.

    Args:
        table: to read.
        where: it is, for messages.
        names: the words of all splits, sorted; None: those of this one. Labels that are numbers have no need of it.

    Raises:
        UserError: a column is missing, or labels are.
    """

    def __init__(self, table: datasets.Dataset, where: str, names: Callable[[], tuple[str, ...]] | None = None) -> None:
        self.name, self.column = where, _image_column(table, where)
        label = _label_column(table.column_names, where)
        values = label_values(table.select_columns([label]).with_format("arrow")[:][label], where, label)
        self.class_names = tuple(getattr(table.features[label], "names", None) or ()) or None
        if values.dtype == np.int64:
            self.labels = values
        else:
            self.class_names = names() if names is not None else tuple(sorted(set(values)))
            place = {name: number for number, name in enumerate(self.class_names)}
            self.labels = np.asarray([place[word] for word in values], dtype=np.int64)
        self.table = table.select_columns([self.column]).with_format("arrow")

    def open(self, index: int) -> Image.Image:
        cell = self.table[index][self.column][0].as_py()
        if isinstance(cell, bytes):
            return Image.open(io.BytesIO(cell))
        # An image that is not in the table lies beside it, as a file.
        return open_image(cell["path"]) if cell["bytes"] is None else Image.open(io.BytesIO(cell["bytes"]))

    def where(self, index: int) -> str:
        return f"{self.name}, row {index}"


class ParquetImages(TableImages):
    """Parquet files of one split."""

    def __init__(
        self, files: Sequence[Path], split: str = "train", names: Callable[[], tuple[str, ...]] | None = None
    ) -> None:
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
            names_ = ", ".join(file.name for file in files)
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"cannot read {names_} in {files[0].parent}: {reason}") from error
        super().__init__(table, str(files[0]), names)

    def where(self, index: int) -> str:
        for file, rows in zip(self.files, self.rows_of_file, strict=True):
            if index < rows:
                return f"{file}, row {index}"
            index -= rows
        raise IndexError(index)


def words_in(files: Sequence[Path]) -> set[str]:
    """The labels of parquet files, which are words."""
    import pyarrow.parquet as pq

    found: set[str] = set()
    for file in files:
        label = _label_column(pq.read_schema(file).names, str(file))
        column = pq.read_table(file, columns=[label]).column(label)
        found |= {str(word) for word in label_values(column, str(file), label)}
    return found


def label_values(column: pa.ChunkedArray, where: str, name: str) -> np.ndarray:
    """Labels as int64, or as an array of words; whole numbers that are written as words are numbers.

    Raises:
        UserError: a row has none, or they are neither.
    """
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    missing = np.asarray(column.is_null(nan_is_null=True))
    if missing.any():
        raise UserError(
            f"{where} has no {name} in row {int(missing.argmax())}"
            + (f" and {int(missing.sum()) - 1} more" if missing.sum() > 1 else "")
            + ": leave such rows out, or label them."
        )
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        values = np.asarray(column.to_pylist())
        if (values != np.round(values)).any():
            raise UserError(f"{where} has {name} {values[values != np.round(values)][0]}: classes are whole numbers.")
        return values.astype(np.int64)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"{where} has the column {name} of type {kind}; a label is one number or one word.")
    words = np.asarray([word.strip() for word in column.to_pylist()], dtype=object)
    try:
        return words.astype(np.int64)
    except ValueError:
        return words


def _image_column(table: datasets.Dataset, where: str) -> str:
    """By its name, else the only one whose values are images or bytes."""
    import datasets

    known = [name for name in _IMAGE_COLUMNS if name in table.column_names]
    kinds = table.features
    held = [
        name
        for name, kind in kinds.items()
        if isinstance(kind, datasets.Image) or getattr(kind, "dtype", None) in ("binary", "large_binary")
    ]
    if not known and len(held) != 1:
        raise UserError(
            f"{where} has columns {', '.join(table.column_names)}; wanted 'img' or 'image', with an image's bytes, "
            "and 'label'"
        )
    return (known or held)[0]


def _label_column(columns: Sequence[str], where: str) -> str:
    label = next((name for name in _LABEL_COLUMNS if name in columns), None)
    if label is None:
        raise UserError(f"{where} has columns {', '.join(columns)}; wanted 'img' or 'image', and 'label'")
    return label
