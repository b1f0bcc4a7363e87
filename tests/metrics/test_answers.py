"""Answers from windows: by hand, wherever the padding is, and on two processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.multiprocessing

from hwaware.errors import UserError
from hwaware.metrics import SquadAnswers


@dataclass(frozen=True)
class Question:
    id: str
    context: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Windows:
    """Two tokens of a question, then words of a context, and a last token."""

    questions: tuple[Question, ...]
    question: np.ndarray
    words: tuple[tuple[int, int], ...]  # of the context: first and last

    @property
    def first(self):
        return np.full(len(self.words), 2)

    @property
    def last(self):
        return np.array([2 + last - first for first, last in self.words])

    @property
    def length(self):
        return self.last + 2

    @property
    def null(self):
        return np.zeros(len(self.words), dtype=int)

    def offsets(self, window):
        first, last = self.words[window]
        begins, words = [], self.questions[self.question[window]].context.split(" ")
        for number in range(len(words)):
            begins.append(sum(len(word) + 1 for word in words[:number]))
        return np.array([(begins[number], begins[number] + len(words[number])) for number in range(first, last + 1)])


QUESTIONS = (
    Question("sat", "The cat sat on the mat", ("sat on",)),
    Question("flew", "Two dogs barked", ()),
    Question("unseen", "Nothing here", ()),
)
# The first question's context does not fit into one window.
WINDOWS = Windows(QUESTIONS, np.array([0, 0, 1, 2]), ((0, 3), (2, 5), (0, 2), (0, 1)))
LOGITS = [
    # (null, start of each word, end of each word)
    (1.0, [0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 1.0, 0.5]),  # "sat" 3, "sat on" 2.5, "cat sat" 2
    (0.5, [3.0, 0.0, 0.0, 1.0], [0.0, 1.5, 0.0, 0.0]),  # "sat on" 4.5
    (4.0, [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]),  # "dogs barked" 3
]


def batch(windows, rows, length=None):
    """Padded start and end logits; large where no answer may be."""
    length = length or max(windows.length[list(rows)])
    start, end = (torch.full((len(rows), length), 50.0) for _ in range(2))
    for number, row in enumerate(rows):
        null, starts, ends = LOGITS[row]
        start[number, windows.null[row]], end[number, windows.null[row]] = null, 0.0
        context = slice(windows.first[row], windows.last[row] + 1)
        start[number, context], end[number, context] = torch.tensor(starts), torch.tensor(ends)
    return torch.tensor(rows), start, end


def metric_of(*batches, windows=WINDOWS, **options):
    metric = SquadAnswers(**options)
    for rows in batches:
        metric.update(*batch(windows, rows), windows)
    return metric


def same(ours, theirs):
    return all(np.array_equal(getattr(ours, field), getattr(theirs, field)) for field in ours.__dataclass_fields__)


def test_by_hand():
    """The best text is the second window's, the null score the lower of both windows'."""
    answers = metric_of([0, 1, 2]).answers(WINDOWS)
    assert answers.ids == ("sat", "flew")  # no window of the third was seen
    assert answers.texts == ("sat on", "dogs barked")
    assert answers.null_odds.tolist() == [0.5 - 4.5, 4.0 - 3.0]
    assert answers.em.tolist() == answers.f1.tolist() == [1.0, 0.0]
    assert answers.has_answer.tolist() == [True, False]
    assert answers.scores(0.0)["em"] == 100.0


def test_longer_answers_than_allowed_are_not_given():
    assert metric_of([0, 1, 2], max_answer_tokens=1).answers(WINDOWS).texts == ("sat", "dogs")


def test_order_batches_repeated_windows_and_padding_make_no_difference():
    wanted = metric_of([0, 1, 2]).answers(WINDOWS)
    assert same(metric_of([2], [1, 0]).answers(WINDOWS), wanted)
    assert same(metric_of([0, 1], [2, 0, 0]).answers(WINDOWS), wanted)
    longer = SquadAnswers()
    longer.update(*batch(WINDOWS, [0, 1, 2], length=20), WINDOWS)
    assert same(longer.answers(WINDOWS), wanted)


def test_of_equally_good_texts_the_first_windows_counts():
    metric = SquadAnswers()
    metric.update(torch.tensor([1, 0]), torch.zeros(2, 7), torch.zeros(2, 7), WINDOWS)
    assert metric.answers(WINDOWS).texts == ("The",)


def test_n_best():
    n_best = metric_of([0, 1, 2], n_best=6).n_best(WINDOWS)
    assert list(n_best) == ["sat", "flew"]
    ranked = n_best["sat"]
    # "sat on" (2.5 in the first window) and "sat" (3 in both) count once; "" is there though other texts are better.
    assert [(answer["text"], answer["score"]) for answer in ranked] == [
        ("sat on", 4.5),
        ("sat", 3.0),
        ("sat on the", 3.0),
        ("sat on the mat", 3.0),
        ("cat sat", 2.0),
        ("", 0.5),
    ]
    weights = np.exp([4.5, 3.0, 3.0, 3.0, 2.0, 0.5])
    np.testing.assert_allclose([answer["probability"] for answer in ranked], weights / weights.sum(), rtol=1e-12)
    assert [answer["text"] for answer in n_best["flew"]][:2] == ["", "dogs barked"]


def test_there_may_be_fewer_answers_than_n_best():
    n_best = metric_of([2], n_best=20).n_best(WINDOWS)["flew"]
    texts = {"", "Two", "dogs", "barked", "Two dogs", "dogs barked", "Two dogs barked"}
    assert {answer["text"] for answer in n_best} == texts and len(n_best) == 7
    assert min(answer["score"] for answer in n_best) == 0.0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_seen():
    with pytest.raises(UserError, match="no question was answered"):
        SquadAnswers().answers(WINDOWS)


def test_reset_forgets():
    metric = metric_of([0, 1, 2])
    metric.answers(WINDOWS)
    metric.reset()
    metric.update(*batch(WINDOWS, [2]), WINDOWS)
    assert metric.answers(WINDOWS).ids == ("flew",)


def _rank(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    shares = {
        "split": [[[1, 2]], [[0], [2]]],  # windows of one question on both, and one window repeated
        "idle": [[[0, 1], [2]], []],
    }
    found = {name: metric_of(*batches[rank]).answers(WINDOWS) for name, batches in shares.items()}
    found["alone"] = metric_of([rank], sync_on_compute=False).answers(WINDOWS)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path):
    torch.multiprocessing.spawn(_rank, (tmp_path,), nprocs=2)
    wanted = metric_of([0, 1, 2]).answers(WINDOWS)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        assert same(found["split"], wanted)
        assert same(found["idle"], wanted)
        assert found["alone"].texts == (("sat",), ("sat on",))[rank]
