from dataclasses import replace

import pytest

from hwaware.errors import UserError
from hwaware.results.costs import KEY, by_repair, cost_of, costs_in, merge_lines, read_costs, write_costs
from hwaware.results.csv import write_csv
from tests.conftest import ROOT


@pytest.fixture
def lines(make_row, make_cost):
    """What three repairs of one network cost."""
    stored = {"dora": 39_600, "vera_plus": 800.5, "gdc": 0}
    return [make_cost(make_row(method=method), bytes_stored=count) for method, count in stored.items()]


def test_costs_read_back_as_they_were(tmp_path, lines):
    awkward = replace(lines[0], network='a, "b"', update_time_s=0.1 + 0.2, cell_writes=11_295_744)
    costs = read_costs(write_costs(tmp_path / "new" / "costs.csv", [awkward, *lines[1:]]))
    assert costs == by_repair([awkward, *lines[1:]])
    assert all(isinstance(line.bytes_stored, float) and isinstance(line.sets, int) for line in costs.values())
    assert costs_in(tmp_path / "new") == costs and costs_in(tmp_path) == {}


@pytest.mark.parametrize("file", sorted((ROOT / "results").glob("*/costs.csv")), ids=lambda file: file.parent.name)
def test_committed_costs_are_written_as_they_were_read(tmp_path, file):
    assert write_costs(tmp_path / "costs.csv", read_costs(file).values()).read_bytes() == file.read_bytes()


def test_a_row_finds_what_its_repair_costs(make_row, lines):
    costs = by_repair(lines)
    for row in (make_row(method="dora", age_s=60.0, chip_seed=7), make_row(method="dora", recipe="another")):
        assert cost_of(row, costs) is lines[0]
    for other in (make_row(), make_row(method="dora", n_samples=7), make_row({"kappa": 1.0}, method="dora")):
        assert cost_of(other, costs) is None


def test_costs_that_are_not(tmp_path, lines):
    path = write_csv(tmp_path / "other.csv", ("a", "b"), [(1, 2)])
    with pytest.raises(UserError, match="no column 'model'"):
        read_costs(path)


@pytest.mark.parametrize(
    ("cells", "wrong"),
    [
        ("many,1.5,0", "'bytes_stored': 'many' is not a number"),
        ("1,1,0.5", "'images_kept': '0.5' is not a whole number"),
    ],
)
def test_a_wrong_cost_is_named(tmp_path, lines, cells, wrong):
    path = write_costs(tmp_path / "costs.csv", lines)
    path.write_text(path.read_text().replace("39600,1.5,0", cells))
    with pytest.raises(UserError, match=f"{path}, line 2, column {wrong}"):
        read_costs(path)


def test_merging_replaces_what_is_there(tmp_path, lines):
    old, other = lines[2], replace(lines[2], mapping="offset")
    new = write_costs(tmp_path / "costs.csv", lines)
    target = write_costs(tmp_path / "all" / "costs.csv", [replace(old, bytes_stored=7), replace(other, bytes_stored=9)])
    merge_lines(target, [new, tmp_path / "nowhere.csv"], KEY)
    assert read_costs(target) == by_repair([old, replace(other, bytes_stored=9), *lines[:2]])
    other = write_csv(tmp_path / "other.csv", ("a", "b"), [(1, 2)])
    with pytest.raises(UserError, match="its columns are not those of"):
        merge_lines(target, [other], KEY)
