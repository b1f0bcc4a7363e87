import csv
import math
import os
import random
from dataclasses import replace

import pytest

from hwaware.errors import UserError
from hwaware.results.csv import COLUMNS, merge_rows, read_rows, write_csv, write_rows
from tests.conftest import ROOT


def test_columns_are_those_of_the_issue():
    assert COLUMNS == tuple(
        "recipe model network dataset device device_params mapping method method_params age_s chip_seed metric value "
        "drift_free base_digital n_samples seed commit version".split()
    )


def test_rows_read_back_to_the_last_bit(tmp_path, make_row):
    draw = random.Random(1)
    rows = [make_row(value=draw.random() * 10**power, chip_seed=power) for power in range(-300, 300, 7)]
    rows += [make_row(value=0.1 + 0.2), make_row(value=5e-324), make_row(value=math.nextafter(91.73, 92))]
    assert read_rows(write_rows(tmp_path / "new" / "rows.csv", rows)) == rows


@pytest.mark.parametrize("file", sorted((ROOT / "results").glob("*/rows.csv")), ids=lambda file: file.parent.name)
def test_committed_rows_are_written_as_they_were_read(tmp_path, file):
    assert write_rows(tmp_path / "rows.csv", read_rows(file)).read_bytes() == file.read_bytes()


def test_awkward_text_reads_back(tmp_path, make_row):
    row = make_row(recipe='a, "b"\nc', dataset="µ £", method_params='{"a": "x,y"}', commit="")
    assert read_rows(write_rows(tmp_path / "rows.csv", [row])) == [row]


def test_numbers_are_of_their_field_s_type(tmp_path, make_row):
    (row,) = read_rows(write_rows(tmp_path / "rows.csv", [make_row(age_s=3600)]))
    assert [type(value) for value in (row.age_s, row.chip_seed, row.n_samples)] == [float, int, int]


def test_whole_floats_are_written_as_ints(tmp_path, make_row):
    files = [write_rows(tmp_path / f"{age!r}.csv", [make_row(age_s=age)]).read_text() for age in (3600, 3600.0)]
    assert files[0] == files[1] and ",3600," in files[0]


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, make_row):
    path = write_rows(tmp_path / "rows.csv", [make_row()])
    before = path.read_bytes()

    def broken():
        yield from (make_row(chip_seed=seed) for seed in range(2000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(path, broken())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = write_csv(tmp_path / "a.csv", ["x"], [["old"]])
    seen = []

    def lines():
        for number in range(5000):
            yield [number]
            seen.append(path.read_text())

    write_csv(path, ["x"], lines())
    assert set(seen) == {"x\nold\n"}
    assert len(path.read_text().splitlines()) == 5001


def test_others_may_read_what_was_written(tmp_path):
    old = os.umask(0o022)
    try:
        path = write_csv(tmp_path / "a.csv", ["x"], [])
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def _cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def _rewrite(path, cells):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(cells)


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("value", "ninety", "not a number"),
        ("chip_seed", "1.5", "not a whole number"),
        ("device_params", "{oops", "not a JSON object"),
        ("method_params", "[1]", "not a JSON object"),
        ("age_s", "", "not a number"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path, make_row, column, text, reason):
    path = write_rows(tmp_path / "rows.csv", [make_row(chip_seed=seed) for seed in range(3)])
    cells = _cells(path)
    cells[2][COLUMNS.index(column)] = text
    _rewrite(path, cells)
    with pytest.raises(UserError) as error:
        read_rows(path)
    message = str(error.value)
    assert all(part in message for part in (str(path), "line 3", f"'{column}'", f"'{text}'", reason))
    assert "\n" not in message


def test_a_short_line_is_named(tmp_path, make_row):
    path = write_rows(tmp_path / "rows.csv", [make_row(), make_row(chip_seed=1)])
    path.write_text(path.read_text()[:-8])  # as a copy that broke off
    with pytest.raises(UserError, match=rf"{path}, line 3: 18 columns instead of 19"):
        read_rows(path)


def test_another_table_s_header_is_refused(tmp_path, make_row):
    path = write_rows(tmp_path / "rows.csv", [make_row()])
    cells = _cells(path)
    cells[0][2] = "net"
    _rewrite(path, cells)
    with pytest.raises(UserError, match="line 1: column 3 is 'net' instead of 'network'"):
        read_rows(path)


def test_an_empty_file_a_binary_one_and_none(tmp_path):
    path = tmp_path / "rows.csv"
    with pytest.raises(FileNotFoundError, match="no rows at"):
        read_rows(path)
    path.write_text("")
    with pytest.raises(UserError, match="empty"):
        read_rows(path)
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="not a CSV file of rows"):
        read_rows(path)


def test_merging_replaces_what_was_measured_again(make_row):
    old = [make_row(chip_seed=seed, value=80.0, commit="old") for seed in range(3)]
    new = [make_row(chip_seed=1, value=90.0, commit="new"), make_row(chip_seed=7)]
    assert merge_rows(old, new) == [old[0], new[0], old[2], new[1]]


@pytest.mark.parametrize(
    "change",
    [
        {"mapping": "offset"}, {"age_s": 1.0}, {"metric": "top5"}, {"network": "finetuned"}, {"seed": 1},
        {"device_params": "{}"}, {"method": "m"}, {"method_params": '{"a": 1}'}, {"dataset": "d"}, {"recipe": "r"},
        {"n_samples": 2000},
    ],
)  # fmt: skip
def test_merging_keeps_another_measurement(make_row, change):
    row = make_row()
    other = replace(row, **change)
    assert merge_rows([row], [other]) == [row, other]
