"""Questions about paragraphs, and their form in files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwaware.errors import UserError

#: Of ``is_impossible`` where a table or a tool has made a text of it.
_YES, _NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")


@dataclass(frozen=True)
class Question:
    """A question about a paragraph.

    Attributes:
        id: identifier, unique in its data set.
        title: title of the article that contains the paragraph.
        context: the paragraph.
        text: the question.
        answers: correct answers; empty if the paragraph does not answer the question. Answers that are only white space
            are dropped.
        starts: start of each answer in the paragraph, in characters.
    """

    id: str
    title: str
    context: str
    text: str
    answers: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        said = [place for place, answer in enumerate(self.answers) if answer.strip()]
        if len(said) < len(self.answers):
            object.__setattr__(self, "starts", tuple(self.starts[place] for place in said))
            object.__setattr__(self, "answers", tuple(self.answers[place] for place in said))

    def span(self) -> tuple[int, int] | None:
        """First and one-past-last character of the answer to learn: the most frequent one, in a tie the first.

        If it is not at its stated start in the paragraph, the nearest occurrence is used. None: there is no answer, or
        the paragraph does not contain it.
        """
        if not self.answers:
            return None
        answer = Counter(self.answers).most_common(1)[0][0]  # of equally frequent ones the first
        stated = self.starts[self.answers.index(answer)]
        if self.context.startswith(answer, stated):
            return stated, stated + len(answer)
        found = [at for at in range(len(self.context)) if self.context.startswith(answer, at)]
        return (near := min(found, key=lambda at: abs(at - stated)), near + len(answer)) if found else None


def read_question(entry: Any, where: str, title: str | None = None, context: str | None = None) -> Question:
    """A question as an entry of a file says it.

    Args:
        entry: its ``question`` and ``answers``; an ``id``, else ``where`` is its id; ``is_impossible``, which drops the
            answers. Answers are a table of ``text`` and ``answer_start``, or a list of such.
        where: the entry stands, for messages.
        title, context: of its article and its paragraph; None: the entry has a ``context``, and may have a ``title``.

    Raises:
        UserError: something is missing, or is not of its type.
    """
    text = key_of(entry, "question", where, str)
    context = key_of(entry, "context", where, str) if context is None else context
    title = _text(entry.get("title")) if title is None else title
    number = where if entry.get("id") is None else str(key_of(entry, "id", where, (str, int)))
    if _is_true(entry.get("is_impossible"), f"{where}.is_impossible"):
        return Question(number, title, context, text)
    texts, starts = _answers(key_of(entry, "answers", where, (dict, list)), f"{where}.answers")
    return Question(number, title, context, text, texts, starts)


def key_of(item: Any, key: str, where: str, kind: type | tuple[type, ...]) -> Any:
    """What an item has under a key.

    Raises:
        UserError: it has none, or one of another type.
    """
    if not isinstance(item, dict) or key not in item:
        have = ", ".join(item) if isinstance(item, dict) else type(item).__name__
        raise UserError(f"{where} has no '{key}' (only: {have}).")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(item[key], kinds) or (isinstance(item[key], bool) and bool not in kinds):
        wanted = " or ".join(_WORDS.get(one, one.__name__) for one in kinds)
        raise UserError(f"{where}.{key} is {type(item[key]).__name__}, not {wanted}.")
    return item[key]


_WORDS: Mapping[type, str] = {str: "text", int: "number", dict: "a table", list: "a list"}


def _answers(answers: dict[str, Any] | list[Any], where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Texts and starts."""
    if isinstance(answers, list):
        places = [f"{where}[{i}]" for i in range(len(answers))]
        texts = [key_of(one, "text", place, str) for one, place in zip(answers, places, strict=True)]
        starts = [
            _whole(key_of(one, "answer_start", place, (int, float, str)), f"{place}.answer_start")
            for one, place in zip(answers, places, strict=True)
        ]
        return tuple(texts), tuple(starts)
    texts, found = (_column(answers, key, where) for key in ("text", "answer_start"))
    if len(texts) != len(found):
        raise UserError(f"{where} has {len(texts)} texts, but {len(found)} starts.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{where}.text[{i}] is {type(text).__name__}, not text.")
    return tuple(texts), tuple(_whole(start, f"{where}.answer_start[{i}]") for i, start in enumerate(found))


def _column(answers: dict[str, Any], key: str, where: str) -> list[Any]:
    """A single answer may stand without a list."""
    value = key_of(answers, key, where, (list, str, int, float))
    return value if isinstance(value, list) else [value]


def _whole(value: Any, where: str) -> int:
    """A number, also one that a table has made a fraction or a text of."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise UserError(f"{where} is {value!r}, not a whole number.")
    return int(number)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _is_true(value: Any, where: str) -> bool:
    if value is None or value != value:  # missing, as tables have it
        return False
    said = str(value).strip().lower()
    if said not in (*_YES, *_NO):
        raise UserError(f"{where} is {value!r}, not true or false.")
    return said in _YES
