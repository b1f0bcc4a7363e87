"""The parts of a variance over chips, against simulations of known parts."""

import csv

import numpy as np
import pytest
from scipy.stats import f_oneway

from hwaware.results.dies import die_of_row, die_variance
from hwaware.results.hits import HitLine, Hits, gain_over_samples
from hwaware.results.summary import crossed_margin, paired_gain, write_summary


@pytest.fixture
def make_dies(make_row):
    """Rows of dies: ``between`` and ``within`` are standard deviations, ``sizes`` how many chips each die has."""

    def make(sizes, between, within, seed=0, per_die=4, training_seed=0, **changes):
        draw = np.random.default_rng(seed)
        return [
            make_row(
                {"die_spread": {"drift_mean": 0.1, "chips_per_die": per_die}}, seed=training_seed,
                chip_seed=2_000_000 + die * per_die + chip, value=float(mean + draw.normal(0, within)), **changes,
            )
            for die, (size, mean) in enumerate(zip(sizes, draw.normal(90, between, len(sizes)), strict=True))
            for chip in range(size)
        ]  # fmt: skip

    return make


def test_parts_are_those_of_the_simulation_on_average(make_dies):
    for sizes in ([4] * 10, [4, 1, 3, 2, 4, 4, 2, 4, 3, 1]):  # a killed run's chips, too
        found = [die_variance(make_dies(sizes, 0.8, 0.5, seed)) for seed in range(400)]
        assert np.mean([one.within**2 for one in found]) == pytest.approx(0.5**2, rel=0.04)
        assert np.mean([one.between**2 for one in found]) == pytest.approx(0.8**2, rel=0.1)
        share = 100 * 0.64 / (0.64 + 0.25)
        held = np.mean([one.share_low <= share <= one.share_high for one in found])
        assert 0.92 < held < 0.98
        assert {(one.n_dies, one.n_chips) for one in found} == {(10, sum(sizes))}


def test_the_ratio_is_that_of_scipys_analysis_of_variance(make_dies):
    rows = make_dies([4] * 6, 0.5, 0.5)
    groups = [[row.value for row in rows if die_of_row(row) == die] for die in {die_of_row(row) for row in rows}]
    one = die_variance(rows)
    assert 1 + 4 * one.between**2 / one.within**2 == pytest.approx(f_oneway(*groups).statistic)


def test_dies_that_do_not_differ(make_dies):
    found = [die_variance(make_dies([4] * 10, 0.0, 0.5, seed)) for seed in range(200)]
    assert np.mean([one.share_low == 0 for one in found]) > 0.94
    assert die_variance(make_dies([4] * 10, 0.0, 0.0)).between == 0


def test_training_seeds_are_averaged(make_dies):
    rows = [row for seed in (0, 1) for row in make_dies([4] * 5, 0.5, 0.5, seed, training_seed=seed)]
    each = [die_variance([row for row in rows if row.seed == seed]) for seed in (0, 1)]
    assert die_variance(rows).within ** 2 == pytest.approx(np.mean([one.within**2 for one in each]))
    assert die_variance(rows).n_chips == 20


def test_rows_that_can_not_tell(make_dies, make_row):
    assert die_variance([make_row(chip_seed=2_000_000 + chip) for chip in range(5)]) is None
    assert die_variance(make_dies([1] * 5, 1.0, 0.1, per_die=1)) is None
    assert die_variance(make_dies([4], 1.0, 0.1)) is None


def _lines(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_summary_has_the_parts_where_chips_share_dies(tmp_path, make_dies, make_row):
    rows = make_dies([4] * 5, 0.8, 0.5)
    line, other = _lines(write_summary(tmp_path / "summary.csv", [*rows, make_row()]))
    one = die_variance(rows)
    assert (float(line["std_between_dies"]), float(line["std_within_die"])) == (one.between, one.within)
    assert [float(line[f"die_share_{end}"]) for end in ("percent", "low", "high")] == [
        one.share, one.share_low, one.share_high
    ]  # fmt: skip
    assert other["std_between_dies"] == other["die_share_high"] == ""
    (plain,) = _lines(write_summary(tmp_path / "plain.csv", [make_row()]))
    assert "std_between_dies" not in plain


def test_gains_count_dies_not_chips(make_dies):
    reference = make_dies([4] * 5, 0.0, 0.0)
    rows = make_dies([4] * 5, 0.8, 0.1, network="finetuned")
    gain = paired_gain(rows, reference)
    means = np.array([row.value - 90 for row in rows]).reshape(5, 4).mean(1)
    assert gain.n_pairs == 5 and gain.mean == pytest.approx(means.mean())
    assert gain.margin == pytest.approx(crossed_margin(means[None]))


def test_gains_over_samples_count_dies_too(make_dies):
    draw, sides = np.random.default_rng(1), []
    for network, right in (("base", 0.7), ("finetuned", 0.9)):
        hits = draw.random((6, 500)) < right
        rows = make_dies([2] * 3, 0.0, 0.0, per_die=2, network=network, n_samples=500)
        rows = [
            type(row)(**vars(row) | {"value": float(100 * own.mean())}) for row, own in zip(rows, hits, strict=True)
        ]
        sides.append((rows, hits, [HitLine.of(row, own) for row, own in zip(rows, hits, strict=True)]))
    (reference, others, lines), (rows, ours, more) = sides
    gain = gain_over_samples(rows, reference, Hits("same", (*lines, *more)))
    table = 100 * (ours.astype(float) - others).reshape(3, 2, 500).mean(1)
    assert gain.n_pairs == 3 and gain.margin == pytest.approx(crossed_margin(table))
