import os
import time

import pytest

from hwaware.errors import UserError
from hwaware.system.reading import parse_json, parse_yaml, read_json, read_text, read_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{c}: &{c} [{','.join([f'*{before}'] * 9)}]\n" for before, c in zip("abcdefghij", "bcdefghijk", strict=True)
)
DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "more than 1,000,000 values, counting what its aliases stand for"),
        ("a: &x [*x]", "is not YAML: found unconstructable recursive node"),
        ("[" * 99_999 + "]" * 99_999, "deeper than 100 levels"),
        ("- " * 150 + "1", "deeper than 100 levels"),
        (f"a: {DIGITS}", "a number of more than 4,300 digits"),
        ("a: 1\nb: 1:00", "line 2: '1:00' is not a number"),
        ("b: 1:30.5", "line 1: '1:30.5' is not a number"),
        ("a: 1\na: 2", "'a' appears twice"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
    ],
    ids=["bomb", "circle", "flow", "block", "digits", "time", "fraction", "twice", "open", "tag"],
)
def test_yaml_is_refused_in_a_line_and_at_once(text, said):
    begin = time.process_time()
    with pytest.raises(UserError, match=r"^recipe") as refusal:
        parse_yaml(text, "recipe")
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 99_999, "nested too deeply"),
        (f'{{"a": {DIGITS}}}', "a number of more than 4,300 digits"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ("{'a': 1}", "line 1, column 2: not JSON"),
        ('{"a": ["\\ud83d\\ude00", "\\ud83d"]}', "has a text with \\ud83d, which is half of a character"),
    ],
)
def test_json_is_refused_in_a_line(text, said):
    with pytest.raises(UserError, match=r"^bundle") as refusal:
        parse_json(text, "bundle")
    assert said in str(refusal.value)


def test_what_is_right_is_read(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfa: &x [1, 2.5]\nb: *x\nc: {<<: {d: 1e-4}, e: '1:00'}\n")
    assert read_yaml(tmp_path / "a.yaml", "recipe") == {
        "a": [1, 2.5],
        "b": [1, 2.5],
        "c": {"d": "1e-4", "e": "1:00"},
    }
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "\\ud83d\\ude00"]}')
    assert read_json(tmp_path / "a.json", "bundle") == {"a": [1, 2.5, None, "\U0001f600"]}


def test_only_ordinary_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"\xb5S")
    (tmp_path / "long").write_text("12345")
    for name, said in {
        "pipe": "is not a regular file",
        ".": "is a folder",
        "absent": "No such file",
        "a" * 300: "File name too long",
        "a\0b": "embedded null byte",
        "latin": "is not UTF-8 text: invalid start byte at byte 0",
        "latin/x": "Not a directory",
    }.items():
        with pytest.raises(UserError, match=said):
            read_text(tmp_path / name, "device file")
    with pytest.raises(UserError, match="has 5 bytes; at most 4 are read"):
        read_text(tmp_path / "long", "device file", 4)
