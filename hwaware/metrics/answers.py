"""Answers to questions from the logits of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from hwaware.metrics.spans import best_spans
from hwaware.metrics.squad import Answers

if TYPE_CHECKING:
    from hwaware.data.windows import Windows


class WindowSpans(NamedTuple):
    """The best spans of windows, in window order, each window once.

    Attributes:
        index: numbers of the windows ``[F]``.
        null: scores of "there is no answer" ``[F]``.
        scores: scores of spans ``[F, n_best]``, best first; -inf if there are fewer spans.
        starts, ends: first and last token of spans ``[F, n_best]`` in the window without padding, inclusive.
    """

    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    null: np.ndarray
    scores: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class SquadAnswers(Metric):
    """Answers to the questions with at least one seen window.

    Windows of a question may be in different batches and on different ranks. A window that a sampler repeats counts
    once. Synchronised ranks must call :meth:`answers` together; then :meth:`n_best` is local.

    Args:
        max_answer_tokens: tokens of the longest answer.
        n_best: number of spans kept per window, and of answers per question.
        kwargs: see :class:`torchmetrics.Metric`; with ``sync_on_compute=False`` each rank answers for itself.
    """

    full_state_update = False

    # one per batch until ranks are synchronised, then one of all
    index: list[Tensor]
    null: list[Tensor]
    scores: list[Tensor]
    starts: list[Tensor]
    ends: list[Tensor]

    def __init__(self, max_answer_tokens: int = 30, n_best: int = 20, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_answer_tokens, self.n_best_size = max_answer_tokens, n_best
        for name in WindowSpans._fields:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, index: Tensor, start_logits: Tensor, end_logits: Tensor, windows: Windows) -> None:
        """Adds a batch.

        Args:
            index: numbers of the windows ``[N]``.
            start_logits, end_logits: logits ``[N, T]`` of the windows, padded at the end.
            windows: all windows of the split.
        """
        rows = index.cpu().numpy()

        def there(positions: np.ndarray) -> Tensor:
            return torch.as_tensor(positions[rows], device=start_logits.device, dtype=torch.long)

        null = there(windows.null)[:, None]
        limits = there(windows.first), there(windows.last)
        scores, starts, ends = best_spans(start_logits, end_logits, *limits, self.max_answer_tokens, self.n_best_size)
        self.index.append(index.to(start_logits.device).long())
        self.null.append((start_logits.float().gather(1, null) + end_logits.float().gather(1, null))[:, 0])
        self.scores.append(scores)
        self.starts.append(starts)
        self.ends.append(ends)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the states of all ranks."""
        self._fill()  # torchmetrics would send an empty state as one number, which can't be gathered
        super().sync(*args, **kwargs)

    def compute(self) -> WindowSpans:
        """The best spans of each seen window."""
        self._fill()
        states = [dim_zero_cat(getattr(self, name)).cpu().numpy() for name in WindowSpans._fields]
        _, once = np.unique(states[0], return_index=True)
        return WindowSpans(*(state[once] for state in states))

    def answers(self, windows: Windows) -> Answers:
        """The best answer to each question.

        Raises:
            UserError: no window was seen.
        """
        spans, questions = self.compute(), windows.questions
        of = windows.question[spans.index]
        order = np.lexsort((-spans.scores[:, 0], of))  # stable: the first window wins a tie
        seen, begin = np.unique(of[order], return_index=True)
        texts = [
            _text(windows, spans, window, 0) if spans.scores[window, 0] > -np.inf else "" for window in order[begin]
        ]
        null = np.minimum.reduceat(spans.null[order], begin) if len(seen) else spans.null
        null_odds = null.astype(np.float64) - spans.scores[order[begin], 0]
        asked = [questions[question] for question in seen]
        return Answers.of([one.id for one in asked], texts, null_odds, [one.answers for one in asked])

    def n_best(self, windows: Windows) -> dict[str, list[dict[str, str | float]]]:
        """The best answers to each question by its id, always including "there is none" (an empty text).

        Each has a ``text``, a ``score`` in logits, and a ``probability``, the softmax of the scores. A text of several
        spans counts once, with their best score.
        """
        spans, found = self.compute(), dict[str, list[dict[str, str | float]]]()
        of = windows.question[spans.index]
        for question in np.unique(of):
            own = np.flatnonzero(of == question)
            scores = {"": float(spans.null[own].min())}
            ranked = np.argsort(-spans.scores[own], axis=None, kind="stable")
            for row, rank in zip(*np.unravel_index(ranked, (len(own), self.n_best_size)), strict=True):
                score = float(spans.scores[own[row], rank])
                if len(scores) == self.n_best_size or score == -np.inf:
                    break
                scores.setdefault(_text(windows, spans, own[row], rank), score)
            found[windows.questions[question].id] = _with_probabilities(scores)
        return found

    def _fill(self) -> None:
        """Gives empty states their shapes and types."""
        if isinstance(self.index, list) and not self.index:
            scores = torch.empty(0, self.n_best_size, device=self.device)
            tokens = scores.long()
            self.index.append(tokens[:, 0])
            self.null.append(scores[:, 0])
            self.scores.append(scores)
            self.starts.append(tokens)
            self.ends.append(tokens)


def _text(windows: Windows, spans: WindowSpans, row: int, rank: int) -> str:
    """The part of the context that a span covers."""
    window = spans.index[row]
    begin, end = (tokens[row, rank] - windows.first[window] for tokens in (spans.starts, spans.ends))
    offsets = windows.offsets(window)
    return windows.questions[windows.question[window]].context[offsets[begin][0] : offsets[end][1]]


def _with_probabilities(scores: dict[str, float]) -> list[dict[str, str | float]]:
    ranked = sorted(scores.items(), key=lambda answer: -answer[1])
    weights = np.exp(np.array([score for _, score in ranked]) - ranked[0][1])
    return [
        {"text": text, "score": score, "probability": float(weight / weights.sum())}
        for (text, score), weight in zip(ranked, weights, strict=True)
    ]
