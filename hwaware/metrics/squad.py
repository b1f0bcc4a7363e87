"""Exact match and F1 as the official evaluation of SQuAD v2 defines them (Rajpurkar et al., arXiv 1806.03822)."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np

from hwaware.errors import UserError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1 if the text equals a gold answer except for case, punctuation, articles and white space, else 0.

    Args:
        prediction: predicted text; ``""``: no answer.
        answers: gold answers. Those that normalisation leaves empty do not count. Without any, ``""`` is right.
    """
    return _scored(prediction, tuple(answers))[0]


def f1(prediction: str, answers: Sequence[str]) -> float:
    """F1 in [0, 1] of the text's words against the best-matching gold answer; see :func:`exact_match`."""
    return _scored(prediction, tuple(answers))[1]


@dataclass(frozen=True)
class Answers:
    """A network's answers to questions, in the order of the data, and their scores.

    Attributes:
        ids: ids of the questions.
        texts: the best answer to each question other than "there is none".
        em, f1: exact match and F1 of that text, in [0, 1].
        null_odds: score of "there is no answer" minus that of the text, in logits.
        has_answer: whether the question can be answered.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    em: np.ndarray
    f1: np.ndarray
    null_odds: np.ndarray
    has_answer: np.ndarray

    def __post_init__(self) -> None:
        lengths = {field: len(getattr(self, field)) for field in self.__dataclass_fields__}
        if len(set(lengths.values())) != 1:
            raise UserError(f"answers must be given for the same questions, not {lengths}.")
        if not self.ids:
            raise UserError("no question was answered: there is nothing to score.")

    @classmethod
    def of(
        cls, ids: Sequence[str], texts: Sequence[str], null_odds: np.ndarray, gold: Sequence[Sequence[str]]
    ) -> Answers:
        """Texts scored against the gold answers of each question. A question without gold answers has no answer."""
        scored = [_scored(text, tuple(answers)) for text, answers in zip(texts, gold, strict=True)]
        em, f1 = np.array(scored, dtype=np.float64).reshape(-1, 2).T
        has_answer = np.array([bool(answers) for answers in gold], dtype=bool)
        return cls(tuple(ids), tuple(texts), em, f1, np.asarray(null_odds, dtype=np.float64), has_answer)

    @classmethod
    def pooled(cls, parts: Iterable[Answers]) -> Answers:
        """The answers of several networks as one set, to choose one threshold for all of them."""
        columns = [[getattr(part, field) for field in cls.__dataclass_fields__] for part in parts]
        ids, texts, *numbers = zip(*columns, strict=True)
        return cls(tuple(chain(*ids)), tuple(chain(*texts)), *map(np.concatenate, numbers))

    def scores(self, threshold: float) -> dict[str, float]:
        """``f1`` and ``em`` in percent, of all questions and of those with (``_has_ans``) and without (``_no_ans``) an
        answer, if there are any. Null odds above the threshold mean no answer.

        ``f1_must_answer`` is the F1 of the questions with an answer when the network has to give one. It depends on no
        threshold.
        """
        refused = self.null_odds > threshold
        everything = np.full_like(self.has_answer, True)
        groups = {"": everything, "_has_ans": self.has_answer, "_no_ans": ~self.has_answer}
        values = {}
        for group, rows in groups.items():
            for metric, raw in (("f1", self.f1), ("em", self.em)):
                chosen = np.where(refused, ~self.has_answer, raw)[rows].tolist()
                if chosen:
                    # summed one by one, as in the official evaluation, to agree in the last digit
                    values[metric + group] = 100.0 * sum(chosen) / len(chosen)
        if self.has_answer.any():
            values["f1_must_answer"] = 100.0 * float(self.f1[self.has_answer].mean())
        return values

    def best_threshold(self) -> float:
        """The threshold with the best F1, as the official evaluation finds it. It is infinite if every question has an
        answer, and 0 if refusing all of them is best.

        It may separate questions with the same null odds, so that :meth:`scores` may be below :meth:`best_f1` after a
        tie.
        """
        if self.has_answer.all():
            return math.inf
        order, totals = self._sweep()
        best = int(np.argmax(totals))  # the first of tied ones
        return float(self.null_odds[order[best - 1]]) if best else 0.0

    def kept_threshold(self) -> float:
        """A threshold for other questions: as good, but halfway between two questions' null odds.

        The official threshold equals one question's null odds, so that the last digit of a logit decides that question.
        Infinite if it is best to answer every question, minus infinite if none.
        """
        order, totals = self._sweep()
        odds, best = self.null_odds[order], int(np.argmax(totals))
        if best == len(odds) or self.has_answer.all():
            return math.inf
        return float(odds[best - 1] + odds[best]) / 2 if best else -math.inf

    def best_f1(self) -> float:
        """The F1 (percent) that the official evaluation gives at :meth:`best_threshold`."""
        return 100.0 * float(self._sweep()[1].max()) / len(self.ids)

    def predictions(self, threshold: float) -> dict[str, str]:
        """The predicted text of each question by its id; empty for no answer."""
        refused = self.null_odds > threshold
        return {id: "" if no else text for id, text, no in zip(self.ids, self.texts, refused, strict=True)}

    def _sweep(self) -> tuple[np.ndarray, np.ndarray]:
        """Questions in the order in which a rising threshold accepts them, and the sum of F1 for each number of
        accepted questions, ``[0 … n]``."""
        order = np.argsort(self.null_odds, kind="stable")
        # The official sweep counts any text as wrong, even one that normalisation leaves empty.
        lost = np.array([-1.0 if text else 0.0 for text in self.texts])
        gains = np.where(self.has_answer, self.f1, lost)[order]
        return order, np.cumsum(np.concatenate([[np.count_nonzero(~self.has_answer)], gains]))


@lru_cache(maxsize=2**17)  # chips mostly give the same answers
def _scored(prediction: str, answers: tuple[str, ...]) -> tuple[float, float]:
    """EM and F1."""
    said = _words(prediction)
    gold = [words for words in map(_words, answers) if words] or [()]
    return max(float(said == words) for words in gold), max(_overlap(said, words) for words in gold)


def _overlap(said: tuple[str, ...], gold: tuple[str, ...]) -> float:
    if not said or not gold:
        return float(said == gold)
    same = (Counter(said) & Counter(gold)).total()
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(gold)
    return 2 * precision * recall / (precision + recall)


@lru_cache(maxsize=2**17)
def _words(text: str) -> tuple[str, ...]:
    """The words of the normalised text."""
    return tuple(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())
