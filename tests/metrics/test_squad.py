"""Exact match, F1 and the threshold against hand-made cases, torchmetrics and a slow sweep of our own."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from torchmetrics.functional.text import squad as torchmetrics_squad

from hwaware.errors import UserError
from hwaware.metrics import Answers, exact_match, f1


@pytest.mark.parametrize(
    ("prediction", "gold", "em", "words"),
    [
        ("The Cat!", ["cat"], 1.0, 1.0),
        ("a  black\tcat", ["black cat"], 1.0, 1.0),
        ("anthem", ["them"], 0.0, 0.0),  # articles are whole words
        ("U.S.", ["us"], 1.0, 1.0),
        ("well-known", ["well known"], 0.0, 0.0),  # the hyphen goes, and leaves no space
        ("an-other", ["another"], 1.0, 1.0),  # punctuation goes before articles
        ("1 – 2", ["1 2"], 0.0, 0.8),  # a dash beyond ASCII is a word: 2·(2/3)·1/(2/3 + 1)
        ("black cat sat", ["cat"], 0.0, 0.5),  # 2·(1/3)·1/(4/3)
        ("cat cat", ["cat dog", "bird"], 0.0, 0.5),  # a word counts as often as both have it
        ("in 1066", ["1066", "in the year 1066", "1067"], 0.0, 0.8),  # the best of 2/3, 2·1·(2/3)/(5/3) and 0
        ("", ["cat"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("cat", [], 0.0, 0.0),
        ("the", [], 1.0, 1.0),  # nothing is left of it
        ("", ["the", "cat"], 0.0, 0.0),  # of the first gold answer nothing is left, so that it does not count
        ("", ["The."], 1.0, 1.0),
    ],
)
def test_texts_scored_by_hand(prediction, gold, em, words):
    assert exact_match(prediction, gold) == em
    assert f1(prediction, gold) == pytest.approx(words, abs=1e-15)


def test_texts_score_as_torchmetrics_says():
    draw = random.Random(0)
    words = ["The", "a", "an", "cat", "cat's", "dog", "Dog.", "x-y", "–", "1066", "!", "Überraschung", "the\n"]

    def text(least):
        return " ".join(draw.choices(words, k=draw.randint(least, 4)))

    compared = set()
    for _ in range(300):
        prediction, gold = text(0), [text(1) for _ in range(draw.randint(0, 3))]
        kept = [answer for answer in gold if not exact_match(answer, [])]
        wanted = torchmetrics_squad(
            [{"prediction_text": prediction, "id": "1"}],
            [{"answers": {"answer_start": [0] * len(kept or [""]), "text": kept or [""]}, "id": "1"}],
        )
        assert 100 * exact_match(prediction, gold) == wanted["exact_match"].item()
        assert 100 * f1(prediction, gold) == pytest.approx(wanted["f1"].item(), rel=1e-6)
        compared.add(round(wanted["f1"].item()))
    assert len(compared) > 5


def answers(rows):
    """From (text, null odds, gold) each."""
    texts, null_odds, gold = zip(*rows, strict=True)
    return Answers.of([f"q{number}" for number in range(len(rows))], texts, np.array(null_odds), gold)


FOUR = [
    ("black cat sat", -2.0, ["cat"]),  # F1 0.5
    ("cat", 0.5, ["The cat"]),
    ("dog", 1.0, []),
    ("bird", 3.0, ["bird"]),
]


def test_scores_by_hand():
    four = answers(FOUR)
    assert four.scores(0.0) == {
        "f1": 37.5,  # 0.5, 0, 1, 0
        "em": 25.0,
        "f1_has_ans": 100.0 * 0.5 / 3,
        "em_has_ans": 0.0,
        "f1_no_ans": 100.0,
        "em_no_ans": 100.0,
        "f1_must_answer": pytest.approx(100.0 * 2.5 / 3),  # of those with an answer, whatever the odds
    }
    assert four.scores(0.5)["f1"] == 62.5  # null odds at the threshold are still answered
    assert four.scores(math.inf)["em"] == 50.0
    assert four.scores(math.inf)["f1_no_ans"] == 0.0
    assert four.predictions(0.5) == {"q0": "black cat sat", "q1": "cat", "q2": "", "q3": ""}


def test_a_split_without_questions_has_no_score():
    assert set(answers(FOUR[:2]).scores(0.0)) == {"f1", "em", "f1_has_ans", "em_has_ans", "f1_must_answer"}
    assert set(answers(FOUR[2:3]).scores(0.0)) == {"f1", "em", "f1_no_ans", "em_no_ans"}


def test_best_threshold_by_hand():
    """Sums of F1 as questions are accepted: 1 at first, then 1.5, 2.5, 1.5, 2.5; the first of the best counts."""
    four = answers(FOUR)
    assert four.best_threshold() == 0.5
    assert four.best_f1() == 62.5 == four.scores(four.best_threshold())["f1"]


@pytest.mark.parametrize(
    ("rows", "threshold", "best_f1"),
    [
        ([FOUR[0], FOUR[1]], math.inf, 75.0),  # no question to refuse
        ([("dog", -1.0, ["cat"]), ("dog", -2.0, [])], 0.0, 50.0),  # refusing all is best
        ([("dog", -3.0, []), ("cat", -2.0, ["cat"]), ("cat", -2.0, ["cat"])], -2.0, 200 / 3),
        ([("the", -3.0, []), ("cat", -2.0, ["cat"])], 0.0, 50.0),  # "the" is right, but costs 1 as the script counts
        ([("", -3.0, []), ("cat", -2.0, ["cat"])], -2.0, 100.0),
        ([("", 0.0, ["an"])], math.inf, 100.0),  # has an answer, of which nothing is left
        # Tied null odds: in the order of the questions, and a threshold between them is thought possible.
        ([("cat", 1.0, ["cat"]), ("dog", 1.0, [])], 1.0, 100.0),
        ([("dog", 1.0, []), ("cat", 1.0, ["cat"])], 0.0, 50.0),
    ],
)
def test_best_threshold_of_special_cases(rows, threshold, best_f1):
    assert answers(rows).best_threshold() == threshold
    assert answers(rows).best_f1() == pytest.approx(best_f1, abs=1e-13)


def random_answers(seed, odds):
    draw = random.Random(seed)
    rows = []
    for _ in range(draw.randint(2, 30)):
        gold = [] if draw.random() < 0.5 else [draw.choice(["cat", "black cat", "big black cat"])]
        rows.append((draw.choice(["cat", "black cat", "dog"]), odds(draw), gold))
    return answers([*rows, ("cat", odds(draw), [])])


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better(seed):
    """Each threshold tried one by one; odds are distinct, and above 0 as the script takes them to be."""
    ours = random_answers(seed, lambda draw: draw.random() + 0.01)
    tried = {threshold: ours.scores(threshold)["f1"] for threshold in [0.0, *ours.null_odds.tolist()]}
    best = max(tried.values())
    assert ours.best_f1() == pytest.approx(best, rel=1e-12)
    assert tried[ours.best_threshold()] == pytest.approx(best, rel=1e-12)
    assert ours.best_threshold() == min(key for key, value in tried.items() if value > best - 1e-9)


def test_the_kept_threshold_lies_between_two_questions():
    four = answers(FOUR)
    above = min(odds for odds in four.null_odds if odds > 0.5)
    assert four.kept_threshold() == (0.5 + above) / 2
    assert four.scores(four.kept_threshold())["f1"] == four.best_f1()


@pytest.mark.parametrize(
    ("rows", "threshold", "best_f1"),
    [
        ([FOUR[0], FOUR[1]], math.inf, 75.0),  # no question to refuse
        ([("dog", -1.0, ["cat"]), ("dog", -2.0, [])], -math.inf, 50.0),  # refusing all is best
        ([("", -3.0, []), ("cat", -2.0, ["cat"])], math.inf, 100.0),  # answering all is
    ],
)
def test_the_kept_threshold_where_all_are_alike(rows, threshold, best_f1):
    assert answers(rows).kept_threshold() == threshold
    assert answers(rows).scores(threshold)["f1"] == best_f1


def test_pooled_answers_are_those_of_all():
    """Alone each would choose a threshold that is wrong for the other: 2.5 and -0.5; together they give one between."""
    right, wrong = ("cat", ["cat"]), ("cat", [])
    one = answers([(text, odds, gold) for odds, (text, gold) in ((1.0, right), (2.0, right), (3.0, wrong))])
    other = answers([(text, odds, gold) for odds, (text, gold) in ((-1.0, right), (0.0, wrong), (2.25, wrong))])
    assert (one.kept_threshold(), other.kept_threshold()) == (2.5, -0.5)
    both = Answers.pooled([one, other])
    assert both.ids == one.ids + other.ids and len(both.texts) == 6
    assert both.kept_threshold() == 2.125
    assert both.scores(2.125)["f1"] == pytest.approx(100 * 5 / 6)


@pytest.mark.parametrize("seed", range(20))
def test_the_kept_threshold_is_as_good_as_the_best(seed):
    ours = random_answers(seed, lambda draw: draw.gauss(0, 1))
    assert ours.scores(ours.kept_threshold())["f1"] == pytest.approx(ours.best_f1(), rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_of_tied_odds_each_question_is_accepted_alone(seed):
    """One question after the other, in a loop."""
    ours = random_answers(seed, lambda draw: float(draw.randint(-2, 2)))
    total = best = sum(not has for has in ours.has_answer)
    threshold = 0.0
    for odds, number in sorted((odds, number) for number, odds in enumerate(ours.null_odds)):
        total += ours.f1[number] if ours.has_answer[number] else -1
        if total > best:
            best, threshold = total, odds
    assert (ours.best_f1(), ours.best_threshold()) == (100.0 * best / len(ours.ids), threshold)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Answers.of([], [], np.empty(0), []), "no question was answered"),
        (lambda: Answers.of(["1"], ["a", "b"], np.zeros(2), [[], []]), "same questions, not {'ids': 1, 'texts': 2"),
    ],
)
def test_bad_input(make, reason):
    with pytest.raises(UserError, match=reason):
        make()
