"""The file of repairs that were not installed."""

import math
from dataclasses import replace

import pytest

from hwaware.errors import UserError
from hwaware.results.refused import (
    Refusal,
    case_of,
    merge_refused,
    read_refused,
    refused_in,
    refused_lines,
    write_refused,
)


@pytest.fixture
def lines(make_row):
    repaired = replace(make_row(), method="dora", method_params='{"rank": 1}')
    return repaired, refused_lines(
        repaired, [Refusal(4, 3600.0, 0.1, math.inf), Refusal(3, 1e8, 0.1, 0.1 + 0.2), Refusal(3, 3600.0, 0.0, 1e-30)]
    )


def test_lines_are_read_back_to_the_last_bit_in_the_order_of_chips_and_ages(tmp_path, lines):
    row, found = lines
    assert [(line.chip_seed, line.age_s) for line in found] == [(3, 3600.0), (3, 1e8), (4, 3600.0)]
    assert case_of(found[0]) == case_of(replace(row, chip_seed=3, age_s=3600.0, metric="top5"))
    assert refused_in(tmp_path) == []
    write_refused(tmp_path / "refused.csv", found)
    assert refused_in(tmp_path) == found


def test_what_is_measured_again_is_refused_again_or_no_more(lines):
    row, found = lines
    again = [replace(row, chip_seed=3, age_s=age_s) for age_s in (3600.0, 1e8)]
    worse = [replace(found[0], error_after=7.0)]
    assert merge_refused(found, again, worse) == [found[2], *worse]
    other = [replace(one, seed=one.seed + 1) for one in again]  # of another training
    assert merge_refused(found, other, []) == found


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("recipe,", "recipes,", "line 1: not a file of refused repairs, whose columns are recipe, model"),
        (",inf", "", "line 4: 14 columns instead of 15"),
        (",inf", ",much", "line 4, column 'error_after': 'much' is not a number"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, lines, old, new, reason):
    path = write_refused(tmp_path / "refused.csv", lines[1])
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=reason):
        read_refused(path)
