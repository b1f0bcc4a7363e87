"""The best spans of start and end logits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def best_spans(
    start: Tensor, end: Tensor, first: Tensor, last: Tensor, max_answer_tokens: int = 30, n_best: int = 20
) -> tuple[Tensor, Tensor, Tensor]:
    """The spans within ``first … last`` whose start and end logits have the largest sum.

    Args:
        start, end: logits ``[N, T]``.
        first, last: positions ``[N]`` of the first and last token that a span may have, inclusive.
        max_answer_tokens: tokens of the longest span.
        n_best: number of spans per row.

    Returns:
        Scores (single precision), starts and ends (inclusive) ``[N, n_best]``, best first. Of tied spans the one that
        starts, then ends, first comes first. If there are fewer spans, the remaining scores are -inf and their
        positions have no meaning.
    """
    length = start.shape[1]
    after = torch.arange(max_answer_tokens, device=start.device)
    starts = torch.arange(length, device=start.device)[:, None]
    ends = starts + after
    padded = F.pad(end.float(), (0, max_answer_tokens - 1), value=-math.inf)
    scores = start.float()[:, :, None] + padded.unfold(1, max_answer_tokens, 1)
    inside = (starts >= first[:, None, None]) & (ends <= last[:, None, None])
    scores = scores.masked_fill(~inside, -math.inf).flatten(1)
    # Half precision has many ties, which topk breaks differently on different devices.
    scores, flat = (found[:, :n_best] for found in scores.sort(dim=1, descending=True, stable=True))
    missing = (0, n_best - scores.shape[1])
    scores, flat = F.pad(scores, missing, value=-math.inf), F.pad(flat, missing)
    starts = flat // max_answer_tokens
    return scores, starts, starts + flat % max_answer_tokens
