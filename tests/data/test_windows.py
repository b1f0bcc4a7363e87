"""Windows against the texts that they are of, and their cache."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from hwaware.data import windows as module
from hwaware.data.questions import Question
from hwaware.data.squad_files import read_questions
from hwaware.data.windows import MAX_QUESTION_TOKENS, Windows, make_windows
from hwaware.errors import UserError
from hwaware.metrics import SquadAnswers

LENGTH, STRIDE = 64, 24


@pytest.fixture(scope="module")
def questions(tiny_reader):
    return read_questions([tiny_reader / "data" / "dev.json"])


@pytest.fixture(scope="module", params=["right", "left"])
def tokenizer(tiny_reader, request):
    """The tiny reader's, padding on either side."""
    return AutoTokenizer.from_pretrained(tiny_reader / "model", padding_side=request.param)


@pytest.fixture(scope="module")
def windows(questions, tokenizer):
    return make_windows(questions, tokenizer, LENGTH, STRIDE)


def of(windows, question):
    return np.flatnonzero(windows.question == question)


def text(windows, window, first, last) -> str:
    """What a span of tokens (inclusive) covers in its paragraph."""
    offsets = windows.offsets(window)
    begin, end = (int(token - windows.first[window]) for token in (first, last))
    return windows.questions[windows.question[window]].context[offsets[begin][0] : offsets[end][1]]


def test_answers_lie_where_the_windows_say(windows, questions):
    """In every window that has all of the answer, and in no other; each answer is in at least one."""
    labelled = set()
    for window, question in enumerate(windows.question):
        span, (begin, end) = questions[question].span(), windows.offsets(window)[[0, -1], [0, 1]]
        if span is not None and begin <= span[0] and span[1] <= end:
            at = windows.start[window], windows.end[window]
            assert windows.first[window] <= at[0] <= at[1] <= windows.last[window]
            assert text(windows, window, *at) == questions[question].context[slice(*span)]
            labelled.add(int(question))
        else:
            assert windows.start[window] == windows.end[window] == windows.null[window]
    assert labelled == {number for number, one in enumerate(questions) if one.answers}
    cut = [window for window, q in enumerate(windows.question) if questions[q].answers and windows.start[window] == 0]
    assert len(labelled) < len(windows) and cut  # some windows lack the answer that another has


def test_windows_hold_the_question_first_whatever_the_side_of_padding(windows, questions, tokenizer):
    assert windows.pad == (tokenizer.pad_token_id, 0)
    for window in (0, len(windows) - 1):
        one, (ids, types) = questions[windows.question[window]], windows.part(window)
        asked = tokenizer(one.text, add_special_tokens=False)["input_ids"]
        first, last = int(windows.first[window]), int(windows.last[window])
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        part = ids[first : last + 1].tolist()
        assert ids.tolist() == [cls, *asked, sep, *part, sep] and len(ids) == windows.length[window]
        assert types.tolist() == [0] * (len(asked) + 2) + [1] * (len(part) + 1)
        assert windows.null[window] == 0 and windows.tokens[windows.begins[window]] == cls


def test_long_paragraphs_overlap_by_the_stride_and_are_covered(windows, questions, tokenizer):
    several = 0
    for number, one in enumerate(questions):
        own = of(windows, number)
        parts = [windows.offsets(window) for window in own]
        for before, after in pairwise(parts):
            np.testing.assert_array_equal(before[-STRIDE:], after[:STRIDE])
            several += 1
        joined = [tuple(pair) for part in (parts[0], *(part[STRIDE:] for part in parts[1:])) for pair in part]
        whole = tokenizer(one.context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        assert joined == whole
        assert all(windows.length[window] == LENGTH for window in own[:-1])
    assert several > 50 and windows.length.max() == LENGTH


def test_an_answer_that_a_window_cuts_is_null_there(tokenizer):
    context = " ".join(f"w{number}" for number in range(40))
    answer = context[30:60]
    one = Question("0", "t", context, "Which?", (answer,), (30,))
    found = make_windows([one], tokenizer, 30, 4)
    labels = found.start != found.null
    inside = [found.offsets(w)[0, 0] <= 30 and found.offsets(w)[-1, 1] >= 60 for w in range(len(found))]
    touched = [found.offsets(w)[0, 0] < 60 and found.offsets(w)[-1, 1] > 30 for w in range(len(found))]
    assert labels.tolist() == inside and sum(touched) > sum(inside)


def test_an_answer_within_a_token_is_the_whole_token(tokenizer):
    context = "It was built in 1731."
    found = make_windows([Question("0", "t", context, "When?", ("73",), (17,))], tokenizer, LENGTH, STRIDE)
    covered = text(found, 0, found.start[0], found.end[0])
    assert "73" in covered and covered in "1731"


def test_a_question_that_is_too_long_is_cut(tokenizer):
    words = " ".join(["river"] * 200)
    one = Question("0", "t", "It stands on the river Elva. " * 3, words)
    ids = make_windows([one], tokenizer, 256, 16).part(0)[0].tolist()
    paragraph = tokenizer(one.context, add_special_tokens=False)["input_ids"]
    assert len(ids) == MAX_QUESTION_TOKENS + len(paragraph) + 3
    # where it would leave no room for the paragraph, further, so that windows still advance by a token
    short = make_windows([one], tokenizer, 32, 16)
    assert short.length.max() == 32 and len(short) == len(paragraph) - 16
    np.testing.assert_array_equal(short.offsets(0)[1:], short.offsets(1)[:-1])


@pytest.mark.parametrize(("length", "stride"), [(64, 64), (64, 60), (20, 24), (64, -1)])
def test_windows_too_short_for_the_stride(questions, tokenizer, length, stride):
    with pytest.raises(
        UserError, match=rf"max_length={length} is too short for stride={stride}: .* above {stride + 4} "
    ):
        make_windows(questions[:1], tokenizer, length, stride)
    if stride >= 0:
        assert len(make_windows(questions[:1], tokenizer, stride + 5, stride))  # the least that the message names


def test_a_question_about_an_empty_paragraph_counts_and_has_no_answer(questions, tokenizer):
    empty = replace(questions[0], id="empty", context="")
    found = make_windows([empty, questions[0]], tokenizer, LENGTH, STRIDE)
    assert set(found.question.tolist()) == {0, 1} and found.offsets(0).shape == (0, 2)
    metric = SquadAnswers()
    metric.update(torch.arange(2), *torch.zeros(2, 2, int(found.length.max())), found)
    answers = metric.answers(found)
    assert answers.ids == ("empty", questions[0].id) and answers.texts[0] == "" and answers.texts[1]
    assert answers.predictions(0.0)["empty"] == ""


def test_a_tokenizer_that_was_set_to_pad_or_cut_does_neither(questions, windows, tokenizer):
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=100)
    assert_same(make_windows(questions, tokenizer, LENGTH, STRIDE), windows)


def assert_same(one: Windows, other: Windows) -> None:
    for field in fields(Windows):
        mine, theirs = (getattr(some, field.name) for some in (one, other))
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        else:
            assert mine == theirs, field.name


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of cached windows, and how often something was tokenised."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "CACHED_QUESTIONS", 10)
    calls, tokenise = [], module._tokenise
    monkeypatch.setattr(module, "_tokenise", lambda *what: calls.append(1) or tokenise(*what))
    return tmp_path / "hwaware" / "windows", calls


def test_windows_are_cached_by_content(cache, questions, tokenizer):
    folder, calls = cache
    some = questions[:40]
    first = make_windows(some, tokenizer, LENGTH, STRIDE)
    (file,) = folder.glob("*.npz")
    assert_same(make_windows(list(some), tokenizer, LENGTH, STRIDE), first)
    assert len(calls) == 1
    other = [replace(some[0], text="Who?"), *some[1:]]
    for changed in ((some, 60, STRIDE), (some, LENGTH, 20), (other, LENGTH, STRIDE), (some[1:], LENGTH, STRIDE)):
        found = make_windows(changed[0], tokenizer, *changed[1:])
        assert found.length.max() <= changed[1]
    assert len(calls) == 5 and len(list(folder.glob("*.npz"))) == 5
    make_windows(some[:9], tokenizer, LENGTH, STRIDE)  # too few to be worth a file
    assert len(list(folder.glob("*.npz"))) == 5 and file.exists()


def test_another_tokenizer_is_another_file(cache, questions, tiny_reader):
    folder, _ = cache
    for changes in ({}, {"padding_side": "left"}, {"do_lower_case": False}):
        make_windows(questions[:40], AutoTokenizer.from_pretrained(tiny_reader / "model", **changes), LENGTH, STRIDE)
    assert len(list(folder.glob("*.npz"))) == 2  # the side of padding makes no difference


def truncated(file):
    file.write_bytes(file.read_bytes()[:-1000])


def flipped(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


def without_an_array(file):
    with np.load(file) as arrays:
        kept = {name: arrays[name] for name in arrays if name != "null"}
    np.savez(file, **kept)


@pytest.mark.parametrize(
    "damage",
    [truncated, flipped, without_an_array, lambda file: file.write_bytes(b""), lambda file: file.write_text("no")],
    ids=["truncated", "flipped", "without_an_array", "empty", "text"],
)
def test_a_damaged_file_is_made_again(cache, questions, tokenizer, damage):
    folder, calls = cache
    first = make_windows(questions[:40], tokenizer, LENGTH, STRIDE)
    (file,) = folder.glob("*.npz")
    damage(file)
    for _ in range(2):  # the second from the new file
        assert_same(make_windows(questions[:40], tokenizer, LENGTH, STRIDE), first)
    assert len(calls) == 2


def test_where_nothing_can_be_cached_windows_are_made(cache, questions, tokenizer, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(make_windows(questions[:40], tokenizer, LENGTH, STRIDE)) >= 40


def test_the_answers_of_the_tiny_reader_are_whole_words(tiny_reader):
    """Of scripts/make_tiny_reader.py: stated where they are, and no part of another word."""
    for split in ("train", "dev"):
        content = json.loads((tiny_reader / "data" / f"{split}.json").read_text())
        paragraphs = [paragraph for article in content["data"] for paragraph in article["paragraphs"]]
        asked = [(p["context"], answer) for p in paragraphs for q in p["qas"] for answer in q["answers"]]
        for context, answer in asked:
            at, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
            assert context[at:end] == answer["text"]
            assert context[at - 1] == " " and not context[end].isalnum()
        questions = read_questions([tiny_reader / "data" / f"{split}.json"])
        share = sum(not one.answers for one in questions) / len(questions)
        assert share == pytest.approx(1 / 3, abs=0.02)
