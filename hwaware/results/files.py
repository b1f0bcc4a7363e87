"""Atomic writing of files: a reader, or a crash meanwhile, sees either the old or the new content."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hwaware.errors import UserError


def is_hub_name(text: str) -> bool:
    """Whether a text can be a name on the Hugging Face hub, ``NAME`` or ``USER/NAME``, rather than only a path."""
    return re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", text) is not None


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces ``path`` if the body ends without an exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files are private: results get the permissions of the umask, like any other file.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if (
            isinstance(error, OSError) and error.errno and error.filename is None
        ):  # the error of a full disk names no file
            error.filename = str(path)
        raise


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which becomes the new folder ``path`` if the body ends without an exception."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def replacing_together(folder: str | Path) -> Iterator[Path]:
    """A folder to fill with files, which move to ``folder`` one by one if the body ends without an exception.

    Raises:
        UserError: a folder has the path of one of the files; no file has moved.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing.") as temporary:
        yield Path(temporary)
        files = sorted(Path(temporary).iterdir())
        for file in files:
            refuse_folder(folder / file.name)
        for file in files:
            os.replace(file, folder / file.name)


def refuse_folder(path: Path) -> None:
    """Raises UserError if a file can't be written because its path is a folder."""
    if path.is_dir():
        raise UserError(f"'{path}' can't be written: it is a folder.")
