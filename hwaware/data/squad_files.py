"""Questions in the format of SQuAD: its nested JSON, flat JSON or parquet files as on the hub, and the hub itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hwaware.data.sources import from_hub
from hwaware.errors import UserError
from hwaware.reading import read_json

#: Names of a split's files; what SQuAD calls dev is the test set here.
_FILES = {
    "train": ("train.json", "train-v2.0.json", "train-v1.1.json", "train.parquet", "train-*.parquet"),
    "dev": ("dev.json", "dev-v2.0.json", "dev-v1.1.json", "validation.parquet", "validation-*.parquet"),
}

#: Of a file of questions; SQuAD v2's training set has 42 MB.
_MAX_BYTES = 2 << 30


@dataclass(frozen=True)
class Question:
    """A question about a paragraph.

    Attributes:
        id: unique in its data set.
        title: of the article that the paragraph is from.
        context: the paragraph.
        text: the question.
        answers: texts that count as right; none where the paragraph does not answer the question.
        starts: where they begin in the paragraph, in characters.
    """

    id: str
    title: str
    context: str
    text: str
    answers: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()

    def span(self) -> tuple[int, int] | None:
        """First and one-past-last character of the answer to learn: the one that most annotators gave, then the first.

        Where the paragraph does not have it at its stated start, the nearest place that does counts. None: there is no
        answer, or the paragraph does not contain it.
        """
        if not self.answers:
            return None
        answer = Counter(self.answers).most_common(1)[0][0]  # of equally frequent ones the first
        stated = self.starts[self.answers.index(answer)]
        if not answer.strip():
            return None
        if self.context.startswith(answer, stated):
            return stated, stated + len(answer)
        found = [at for at in range(len(self.context)) if self.context.startswith(answer, at)]
        return (near := min(found, key=lambda at: abs(at - stated)), near + len(answer)) if found else None


def read_questions(files: Sequence[Path]) -> list[Question]:
    """The questions of ``.json`` or ``.parquet`` files.

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
        raise UserError(f"there is no folder '{path}' with questions (train.json, dev.json, or parquet files).")
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
    content = read_json(path, "question set", _MAX_BYTES)
    if not isinstance(content, dict):
        raise UserError(f"{path} is a {type(content).__name__}, not SQuAD's object with a list of articles 'data'.")
    articles = _key(content, "data", str(path), list)
    nested = any(isinstance(article, dict) and "paragraphs" in article for article in articles)
    return (_nested if nested else _flat)(articles, str(path))


def _nested(articles: list[Any], file: str) -> Iterator[Question]:
    for a, article in enumerate(articles):
        where = f"{file}: data[{a}]"
        paragraphs = _key(article, "paragraphs", where, list)
        title = str(article.get("title", a))
        for p, paragraph in enumerate(paragraphs):
            at = f"{where}.paragraphs[{p}]"
            context = _key(paragraph, "context", at, str)
            for q, asked in enumerate(_key(paragraph, "qas", at, list)):
                yield _question(asked, title, context, f"{at}.qas[{q}]")


def _question(asked: Any, title: str, context: str, where: str) -> Question:
    text, number = _key(asked, "question", where, str), _key(asked, "id", where, (str, int))
    answers = [] if asked.get("is_impossible") else _key(asked, "answers", where, list)
    texts = tuple(_key(answer, "text", f"{where}.answers[{i}]", str) for i, answer in enumerate(answers))
    starts = tuple(_key(answer, "answer_start", f"{where}.answers[{i}]", int) for i, answer in enumerate(answers))
    return Question(str(number), title, context, text, texts, starts)


def _flat(rows: Iterable[Any], file: str) -> Iterator[Question]:
    for place, row in enumerate(rows):
        where = f"{file}: row {place}"
        answers = _key(row, "answers", where, dict)
        texts = _column(answers, "text", f"{where}.answers", str)
        starts = _column(answers, "answer_start", f"{where}.answers", int)
        if len(texts) != len(starts):
            raise UserError(f"{where}.answers has {len(texts)} texts, but {len(starts)} starts.")
        number, title, context, text = (_key(row, key, where, str) for key in ("id", "title", "context", "question"))
        yield Question(number, title, context, text, texts, starts)


def _column(answers: Any, key: str, where: str, kind: type) -> tuple[Any, ...]:
    values = _key(answers, key, where, list)
    for i, value in enumerate(values):
        if not isinstance(value, kind):
            raise UserError(f"{where}.{key}[{i}] is {type(value).__name__}, not {kind.__name__}.")
    return tuple(values)


def _key(item: Any, key: str, where: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(item, dict) or key not in item:
        have = ", ".join(item) if isinstance(item, dict) else type(item).__name__
        raise UserError(f"{where} has no '{key}' (only: {have}).")
    if not isinstance(item[key], kind):
        wanted = kind.__name__ if isinstance(kind, type) else "text or number"
        raise UserError(f"{where}.{key} is {type(item[key]).__name__}, not {wanted}.")
    return item[key]


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
