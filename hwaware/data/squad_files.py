"""Questions in the format of SQuAD: its nested JSON; flat JSON, JSON lines or parquet files; and the hub itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from hwaware.data.questions import Question, key_of, read_question
from hwaware.data.sources import from_hub
from hwaware.errors import UserError, nearest_path
from hwaware.system.reading import read_json_or_lines

#: Names of a split's files; what SQuAD calls dev is the test set here.
_FILES = {
    "train": ("train.json", "train-v2.0.json", "train-v1.1.json", "train.jsonl", "train.parquet", "train-*.parquet"),
    "dev": (
        *("dev.json", "dev-v2.0.json", "dev-v1.1.json", "dev.jsonl", "validation.json", "validation.jsonl"),
        *("validation.parquet", "validation-*.parquet"),
    ),
}

#: Of a file of questions; SQuAD v2's training set has 42 MB.
_MAX_BYTES = 2 << 30


def read_questions(files: Sequence[Path]) -> list[Question]:
    """The questions of ``.json``, ``.jsonl`` or ``.parquet`` files.

    Raises:
        UserError: a file is malformed (saying the line, or the key); two questions have one id.
    """
    return _unique(chain.from_iterable(map(_read, files)), ", ".join(map(str, files)))


def find_files(path: str | Path) -> dict[str, list[Path]]:
    """The files of ``train`` and ``dev`` in a folder, or in a folder in it, as downloads from the hub have them.

    Raises:
        UserError: there is no such folder, or neither in it.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "with questions (train.json, dev.json, or parquet files)"
        raise UserError(f"there is no folder '{path}' {what}. {nearest_path(path)}".rstrip())
    found = {}
    for split, patterns in _FILES.items():
        hits = (sorted(folder.glob(f"{place}{pattern}")) for place in ("", "*/") for pattern in patterns)
        if files := next(filter(None, hits), None):
            found[split] = files
    if not found:
        have = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
        raise UserError(f"'{path}' has neither train.json nor dev.json (nor parquet files so named), but: {have}.")
    return found


def hub_questions(name: str, split: str) -> list[Question]:
    """``train`` or ``dev`` of a data set of the Hugging Face hub: ``rajpurkar/squad_v2``, ``rajpurkar/squad``.

    Raises:
        UserError: the hub can't be reached, or has no such data set or split.
    """
    from datasets import load_dataset

    theirs = {"train": "train", "dev": "validation"}[split]
    local = "--data.source local --data.path DIR"
    rows = from_hub(f"the {theirs} questions of '{name}'", lambda: load_dataset(name, split=theirs), local)
    return _unique(_flat(rows, name), name)


def _read(path: Path) -> Iterator[Question]:
    if path.suffix == ".parquet":
        return _flat(_parquet(path), str(path))
    content = read_json_or_lines(path, "question set", _MAX_BYTES)
    if isinstance(content, dict) and "question" in content:  # a single line
        content = [content]
    articles = content if isinstance(content, list) else key_of(content, "data", str(path), list)
    nested = any(isinstance(article, dict) and "paragraphs" in article for article in articles)
    return (_nested if nested else _flat)(articles, str(path))


def _nested(articles: list[Any], file: str) -> Iterator[Question]:
    for a, article in enumerate(articles):
        where = f"{file}: data[{a}]"
        paragraphs = key_of(article, "paragraphs", where, list)
        title = str(article.get("title", a))
        for p, paragraph in enumerate(paragraphs):
            at = f"{where}.paragraphs[{p}]"
            context = key_of(paragraph, "context", at, str)
            for q, asked in enumerate(key_of(paragraph, "qas", at, list)):
                yield read_question(asked, f"{at}.qas[{q}]", title, context)


def _flat(rows: Iterable[Any], file: str) -> Iterator[Question]:
    for place, row in enumerate(rows):
        yield read_question(row, f"{file}: row {place}")


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    with contextlib.suppress(pyarrow.ArrowInvalid, OSError):
        return parquet.read_table(path).to_pylist()
    raise UserError(f"{path} is cut short or not a parquet file.")


def _unique(questions: Iterable[Question], file: str) -> list[Question]:
    questions = list(questions)
    if not questions:
        raise UserError(f"{file} holds no question.")
    number, times = Counter(question.id for question in questions).most_common(1)[0]
    if times > 1:
        raise UserError(f"{file} has {times} questions with the id '{number}': ids must be unique.")
    return questions
