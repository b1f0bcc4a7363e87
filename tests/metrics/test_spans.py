"""Best spans against a hand-made case and against trying all of them."""

from __future__ import annotations

import math

import pytest
import torch

from hwaware.metrics import best_spans


def positions(*values):
    return torch.tensor(values)


def test_by_hand():
    start = torch.tensor([[9.0, 1.0, 2.0, 0.0, 9.0]])
    end = torch.tensor([[9.0, 5.0, 0.5, 3.0, 9.0]])
    scores, starts, ends = best_spans(start, end, positions(1), positions(3), max_answer_tokens=2, n_best=7)
    spans = list(zip(scores[0].tolist(), starts[0].tolist(), ends[0].tolist(), strict=True))
    # 1…3 is too long, and 2…1 goes backwards.
    assert spans[:5] == [(6.0, 1, 1), (5.0, 2, 3), (3.0, 3, 3), (2.5, 2, 2), (1.5, 1, 2)]
    assert [score for score, *_ in spans[5:]] == [-math.inf] * 2


@pytest.mark.parametrize("max_answer_tokens", [1, 4, 30])
def test_all_spans_tried_one_by_one(max_answer_tokens):
    start, end = torch.randn(2, 5, 16)
    first, last = positions(0, 3, 15, 7, 2), positions(15, 12, 15, 6, 9)  # the fourth has no token
    found = best_spans(start, end, first, last, max_answer_tokens, n_best=20)
    for row, (scores, starts, ends) in enumerate(zip(*found, strict=True)):
        spans = {
            (i, j): (start[row, i] + end[row, j]).item()
            for i in range(first[row], last[row] + 1)
            for j in range(i, min(i + max_answer_tokens, last[row] + 1))
        }
        wanted = sorted(spans, key=spans.get, reverse=True)[:20]
        n = len(wanted)
        assert list(zip(starts[:n].tolist(), ends[:n].tolist(), strict=True)) == wanted
        assert scores[:n].tolist() == [spans[span] for span in wanted]
        assert (scores[n:] == -math.inf).all() and len(scores) == 20


def test_of_equal_spans_the_first_counts_wherever_padding_is():
    zeros = torch.zeros(1, 40, dtype=torch.bfloat16)
    left = best_spans(zeros, zeros, positions(30), positions(35), 3, 4)
    right = best_spans(zeros, zeros, positions(10), positions(15), 3, 4)
    assert right[1].tolist() == [[10, 10, 10, 11]] and right[2].tolist() == [[10, 11, 12, 11]]
    assert [(positions - 20).tolist() for positions in left[1:]] == [positions.tolist() for positions in right[1:]]


def test_half_precision_is_added_in_single():
    start, end = torch.tensor([[1024.0]]).bfloat16(), torch.tensor([[1.0]]).bfloat16()
    scores, *_ = best_spans(start, end, positions(0), positions(0), n_best=1)
    assert scores.dtype == torch.float32
    assert scores.item() == 1025.0  # bfloat16 has 1024
