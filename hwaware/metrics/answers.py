"""From the logits of windows to answers of questions."""

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
    """The best spans of windows, each window once, in their order.

    Attributes:
        index: ``[F]``.
        null: scores of "there is no answer" ``[F]``.
        scores: of spans ``[F, n_best]``, best first; -inf where there is none.
        starts, ends: their tokens ``[F, n_best]`` in the window without padding, inclusive.
    """

    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    null: np.ndarray
    scores: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class SquadAnswers(Metric):
    """Answers to the questions of which at least one window was seen.

    Windows of a question may lie in different batches and on different ranks, and one that a sampler repeats counts
    once. Ranks that are synchronised must call :meth:`answers` together; after that :meth:`n_best` is local.

    Args:
        max_answer_tokens: tokens of the longest answer.
        n_best: spans kept of a window, and answers of a question.
        kwargs: see :class:`torchmetrics.Metric`; with ``sync_on_compute=False`` each rank answers for itself.
    """

    full_state_update = False

    # a batch's each until ranks are synchronised; then all in one
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
        """Takes in a batch.

        Args:
            index: which windows ``[N]``.
            start_logits, end_logits: ``[N, T]`` of the windows, padded at the end.
            windows: all of the split.
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
        """Gathers what all ranks have."""
        self._fill()  # torchmetrics would send one number of its own type, which cannot be gathered
        super().sync(*args, **kwargs)

    def compute(self) -> WindowSpans:
        """What is known of each window that was seen."""
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
        order = np.lexsort((-spans.scores[:, 0], of))  # stable: of equal ones the first window's
        seen, begin = np.unique(of[order], return_index=True)
        texts = [
            _text(windows, spans, window, 0) if spans.scores[window, 0] > -np.inf else "" for window in order[begin]
        ]
        null = np.minimum.reduceat(spans.null[order], begin) if len(seen) else spans.null
        null_odds = null.astype(np.float64) - spans.scores[order[begin], 0]
        asked = [questions[question] for question in seen]
        return Answers.of([one.id for one in asked], texts, null_odds, [one.answers for one in asked])

    def n_best(self, windows: Windows) -> dict[str, list[dict[str, str | float]]]:
        """The best answers to each question by its id, "there is none" (an empty text) always among them.

        Each has a ``text``, a ``score`` in logits, and as ``probability`` the softmax of the scores. A text that
        several spans give counts once, with the best of their scores.
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
        """Gives states that no batch has reached their shapes and types."""
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
