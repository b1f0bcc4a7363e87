"""Questions read from each format, what is wrong with files, and which answer is the one to learn."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pyarrow
import pytest
from pyarrow import parquet

from hwaware.data.questions import Question
from hwaware.data.squad_files import find_files, hub_questions, read_questions
from hwaware.errors import UserError

MILL = "The mill was built in 1731 by Ada Bo. Ada Bo lived there until 1760."
QUESTIONS = [
    Question("q0", "Mill", MILL, "Who built it?", ("Ada", "Ada Bo", "Ada Bo"), (30, 30, 30)),
    Question("q1", "Mill", MILL, "Who burnt it?"),
    Question("7", "Tower", "A tower of oak.", "What is it made of?", ("oak",), (11,)),
]


def nested(version="v2.0") -> dict:
    articles: dict[str, list] = {}
    for one in QUESTIONS:
        answers = [{"text": t, "answer_start": s} for t, s in zip(one.answers, one.starts, strict=True)]
        asked = {"id": int(one.id) if one.id.isdigit() else one.id, "question": one.text, "answers": answers}
        if version == "v2.0":
            asked["is_impossible"] = not answers
            asked["plausible_answers"] = [{"text": "The", "answer_start": 0}]
        paragraphs = articles.setdefault(one.title, [{"context": one.context, "qas": []}])
        paragraphs[0]["qas"].append(asked)
    return {"version": version, "data": [{"title": t, "paragraphs": p} for t, p in articles.items()]}


def flat() -> list[dict]:
    rows = []
    for one in QUESTIONS:
        row = {"id": one.id, "title": one.title, "context": one.context, "question": one.text}
        rows.append(row | {"answers": {"text": list(one.answers), "answer_start": list(one.starts)}})
    return rows


def written(tmp_path, content, name="train.json"):
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


@pytest.mark.parametrize("version", ["v2.0", "v1.1"])
def test_nested_json(tmp_path, version):
    """SQuAD's own format; of version 1.1 without ``is_impossible``. A plausible answer is none."""
    assert read_questions([written(tmp_path, nested(version))]) == QUESTIONS


def test_json_that_begins_with_a_byte_order_mark(tmp_path):
    file = written(tmp_path, "\ufeff" + json.dumps(nested()))
    assert read_questions([file]) == QUESTIONS


def test_flat_json(tmp_path):
    assert read_questions([written(tmp_path, {"data": flat()})]) == QUESTIONS


def test_parquet_in_several_files(tmp_path):
    for number, rows in enumerate((flat()[:2], flat()[2:])):
        name = f"train-0000{number}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    assert read_questions(find_files(tmp_path)["train"]) == QUESTIONS


def test_impossible_questions_have_no_answer_whatever_else_is_said(tmp_path):
    content = nested()
    content["data"][1]["paragraphs"][0]["qas"][0]["is_impossible"] = True
    assert read_questions([written(tmp_path, content)])[2].answers == ()


@pytest.mark.parametrize(
    ("names", "train", "dev"),
    [
        (("train.json", "dev.json"), ["train.json"], ["dev.json"]),
        (("train-v2.0.json", "dev-v2.0.json"), ["train-v2.0.json"], ["dev-v2.0.json"]),
        (("train-v1.1.json",), ["train-v1.1.json"], None),
        (("dev-v1.1.json",), None, ["dev-v1.1.json"]),
        (
            ("squad_v2/train-00000-of-00001.parquet", "squad_v2/validation-00000-of-00001.parquet"),
            ["squad_v2/train-00000-of-00001.parquet"],
            ["squad_v2/validation-00000-of-00001.parquet"],
        ),
    ],
)
def test_names_of_files(tmp_path, names, train, dev):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_files(tmp_path)
    for split, expected in (("train", train), ("dev", dev)):
        assert [str(f.relative_to(tmp_path)) for f in found.get(split, [])] == (expected or [])


def test_no_files(tmp_path):
    with pytest.raises(UserError, match=r"has neither train.json nor dev.json .*, but: nothing"):
        find_files(tmp_path)
    (tmp_path / "squad.json").touch()
    with pytest.raises(UserError, match=r"but: squad.json"):
        find_files(tmp_path)
    with pytest.raises(UserError, match=r"there is no folder '.*elsewhere'"):
        find_files(tmp_path / "elsewhere")


def broken(change) -> dict:
    content = nested()
    change(content["data"][0]["paragraphs"][0])
    return content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"version": "v2.0",\n "data": [\n  {"title": oops}]}', r"train\.json', line 3, column 13: not JSON"),
        ("", r"line 1, column 1: not JSON"),
        ([], r"train\.json holds no question"),
        (3, r"train\.json has no 'data' \(only: int\)"),
        ({"questions": []}, r"train\.json has no 'data' \(only: questions\)"),
        ({"data": {}}, r"train\.json\.data is dict, not a list"),
        ({"data": []}, r"train\.json holds no question"),
        (broken(lambda p: p.pop("context")), r"data\[0\]\.paragraphs\[0\] has no 'context' \(only: qas\)"),
        (broken(lambda p: p["qas"][0].pop("answers")), r"paragraphs\[0\]\.qas\[0\] has no 'answers'"),
        (broken(lambda p: p["qas"][1].update(question=3)), r"qas\[1\]\.question is int, not text"),
        (broken(lambda p: p["qas"][1].update(id=[3])), r"qas\[1\]\.id is list, not text or number"),
        (
            broken(lambda p: p["qas"][0]["answers"][2].update(answer_start=30.5)),
            r"qas\[0\]\.answers\[2\]\.answer_start is 30.5, not a whole number",
        ),
        (broken(lambda p: p["qas"][1].update(id="q0")), r"2 questions with the id 'q0': ids must be unique"),
        ({"data": [*flat(), {"id": "x"}]}, r"row 3 has no 'question' \(only: id\)"),
        ({"data": [flat()[0] | {"is_impossible": "perhaps"}]}, r"row 0\.is_impossible is 'perhaps', not true or false"),
        (json.dumps(flat()[0]) + '\n{"id": oops}', r"train\.json', line 2, column 8: not JSON"),
        ({"data": [flat()[0] | {"answers": {"text": ["a"]}}]}, r"row 0\.answers has no 'answer_start' \(only: text\)"),
        ({"data": [flat()[0] | {"answers": "Ada"}]}, r"row 0\.answers is str, not a table or a list"),
        ({"data": [flat()[0] | {"answers": ["Ada"]}]}, r"row 0\.answers\[0\] has no 'text' \(only: str\)"),
        # the same mistake in fields that lists of texts and numbers stand in
        ({"data": [flat()[0] | {"answers": {"text": [3], "answer_start": [0]}}]}, r"row 0\.answers\.text\[0\] is int"),
        (
            {"data": [flat()[0] | {"answers": {"text": ["a"], "answer_start": ["here"]}}]},
            r"row 0\.answers\.answer_start\[0\] is 'here', not a whole number",
        ),
        (
            {"data": [flat()[0] | {"answers": {"text": ["a", "b"], "answer_start": [0]}}]},
            r"row 0\.answers has 2 texts, but 1 starts",
        ),
    ],
)
def test_wrong_files(tmp_path, content, reason):
    with pytest.raises(UserError, match=reason) as error:
        read_questions([written(tmp_path, content)])
    assert len(str(error.value).splitlines()) == 1


def test_not_text(tmp_path):
    (tmp_path / "train.json").write_bytes(b'{"data": "\xff"}')
    with pytest.raises(UserError, match=r"train\.json' is not UTF-8 text: .* at byte 10"):
        read_questions([tmp_path / "train.json"])


def test_damaged_parquet(tmp_path):
    file = tmp_path / "train.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(flat()), file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"train\.parquet is cut short or not a parquet file"):
        read_questions([file])


def test_ids_are_unique_across_files(tmp_path):
    files = [written(tmp_path, {"data": flat()}, f"{name}.json") for name in ("a", "b")]
    with pytest.raises(UserError, match="has 2 questions with the id"):
        read_questions(files)


def test_questions_of_the_hub(monkeypatch):
    import datasets

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: asked.append((name, split)) or flat())
    assert hub_questions("them/theirs", "dev") == QUESTIONS
    assert asked == [("them/theirs", "validation")]


def test_the_hub_without_a_network(monkeypatch):
    import datasets

    def offline(*_, **__):
        raise ConnectionError("Couldn't reach 'them/theirs' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(UserError, match=r"the train questions of 'them/theirs'(.|\n)*--data.path DIR"):
        hub_questions("them/theirs", "train")


def learnt(**changes) -> str | None:
    one = Question(**asdict(QUESTIONS[0]) | changes)
    span = one.span()
    return None if span is None else (span, one.context[slice(*span)])


def test_the_most_frequent_answer_is_learnt_at_its_place():
    assert learnt() == ((30, 36), "Ada Bo")
    assert learnt(answers=("Ada", "Ada Bo"), starts=(38, 30)) == ((38, 41), "Ada")  # of equals the first
    assert learnt(answers=("Bo", "Ada", "Ada"), starts=(34, 38, 30)) == ((38, 41), "Ada")  # its first place


def test_an_answer_at_a_wrong_place_is_found_nearby():
    # Ada Bo is at 30 and 38.
    for stated, at in ((0, 30), (31, 30), (34, 30), (35, 38), (60, 38), (9999, 38), (-5, 30)):
        assert learnt(answers=("Ada Bo",), starts=(stated,)) == ((at, at + 6), "Ada Bo")


@pytest.mark.parametrize(
    ("said", "impossible"),
    [
        *(("False", False), ("false", False), ("no", False), ("0", False), (0, False), (0.0, False), (None, False)),
        *(("True", True), ("TRUE ", True), ("1", True), (1, True), (1.0, True), ("yes", True), (False, False)),
    ],
)
@pytest.mark.parametrize("form", ["nested", "flat", "lines", "parquet"])
def test_what_marks_a_question_as_impossible(tmp_path, said, impossible, form):
    """As a table or an annotation tool writes it, in a column of its own as well."""
    if form == "nested":
        content = nested()
        content["data"][0]["paragraphs"][0]["qas"][0]["is_impossible"] = said
        file = written(tmp_path, content)
    else:
        rows = [flat()[0] | {"is_impossible": said}]
        file = tmp_path / f"train.{form}"
        if form == "parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        else:
            file = written(tmp_path, {"data": rows} if form == "flat" else json.dumps(rows[0]))
    assert read_questions([file])[0].answers == (() if impossible else QUESTIONS[0].answers)


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_answer_is_none(tmp_path, empty):
    """In training as in dev."""
    rows = flat()
    rows[0]["answers"] = {"text": [empty], "answer_start": [0]}
    rows[2]["answers"] = {"text": [empty, "oak"], "answer_start": [0, 11]}
    first, _, third = read_questions([written(tmp_path, {"data": rows})])
    assert (first.answers, first.starts, first.span()) == ((), (), None)
    assert (third.answers, third.starts) == (("oak",), (11,))


def test_rows_as_tools_and_tables_write_them(tmp_path):
    """No title, no id or a number, answers as objects, as a single one, with starts that a table has made fractions."""
    oak = {"context": QUESTIONS[2].context, "question": QUESTIONS[2].text}
    forms = (
        [{"text": "oak", "answer_start": 11.0}],
        {"text": ["oak"], "answer_start": [11.0]},
        {"text": "oak", "answer_start": "11"},
    )
    rows = [oak | {"answers": answers} for answers in forms]
    rows[0]["id"] = 7
    found = read_questions([written(tmp_path, rows)])
    assert [(one.answers, one.starts, one.title) for one in found] == [(("oak",), (11,), "")] * 3
    assert found[0].id == "7" and len({one.id for one in found}) == 3


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
def test_an_object_a_line(tmp_path, name):
    odd = flat()[1] | {"question": "Who\u2028burnt it?"}  # which some take for the end of a line
    lines = [json.dumps(row, ensure_ascii=False) for row in (flat()[0], odd, flat()[2])]
    written(tmp_path, "\n".join(lines) + "\n\n", name)
    found = read_questions(find_files(tmp_path)["train"])
    assert found == [QUESTIONS[0], replace(QUESTIONS[1], text=odd["question"]), QUESTIONS[2]]
    assert read_questions([written(tmp_path, lines[0], name)]) == QUESTIONS[:1]


@pytest.mark.parametrize("answers", [(), ("Cleo",), ("ada bo",), (" ",), ("",)])
def test_no_answer_to_learn(answers):
    assert learnt(answers=answers, starts=(3,) * len(answers)) is None
