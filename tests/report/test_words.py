"""What rows amount to, in sentences."""

from __future__ import annotations

import pytest

from hwaware.report.words import in_short, in_words
from hwaware.results.costs import by_repair
from hwaware.results.criteria import Criteria


@pytest.fixture
def repaired(make_row, make_cost):
    """A network, and two repairs of it, at one hour and ten years on two chips; what the repairs cost."""
    accuracies = {"none": (91.0, 80.0), "dora": (91.5, 91.0), "vera_plus": (91.4, 90.8)}
    rows = [
        make_row(method=method, age_s=age_s, value=value + chip, chip_seed=2_000_000 + chip)
        for method, values in accuracies.items()
        for age_s, value in zip((3600.0, 315_360_000.0), values, strict=True)
        for chip in (0, 1)
    ]
    stored = {"dora": 582_000, "vera_plus": 2460}
    costs = [make_cost(row, bytes_stored=stored[row.method]) for row in rows if row.method != "none"]
    return rows, by_repair(costs)


def test_the_best_repair_and_the_cheapest_near_it(repaired):
    base, repairs = in_words(*repaired)
    assert base.startswith(
        "base: 80.50 % top-1 accuracy after 10 years, 11.23 points below the digital network's 91.73 %"
    )
    assert "0 of 2 chips lose at most 1 point. The mean falls below that between 1 h and 10 years." in base
    assert repairs == (
        "Repaired, base + dora is the best after 10 years: 91.50 %, 11.00 points more than without, for 582 kB. "
        "Within 0.5 points of it, base + vera_plus stores least: 91.30 %, for 2.46 kB."
    )


def test_a_network_that_is_lost_at_once(make_row):
    (sentence,) = in_words([make_row(age_s=age_s, value=10.0) for age_s in (3600.0, 315_360_000.0)], {})
    assert sentence.endswith("The mean is below that from the first age on.")


def test_costs_may_be_unknown(repaired):
    rows, _ = repaired
    assert in_words(rows, {})[1] == (
        "Repaired, base + dora is the best after 10 years: 91.50 %, 11.00 points more than without."
    )


def test_a_repair_that_harms(repaired):
    rows, costs = repaired
    worse = [row for row in rows if row.method in ("none", "dora")]
    worse = [row if row.method == "none" else type(row)(**{**row.__dict__, "value": 10.0}) for row in worse]
    assert in_words(worse, costs)[1] == "No repair is better than none after 10 years: base has 80.50 %."


def test_a_single_chip_has_no_yield(make_row):
    (sentence,) = in_words([make_row(age_s=3600.0, value=92.0)], {})
    assert sentence == ("base: 92.00 % top-1 accuracy after 1 h, 0.27 points above the digital network's 91.73 %.")


def test_an_age_beyond_what_was_measured(make_row):
    (sentence,) = in_words([make_row({"measured_s": [1.0, 604_800.0]}, age_s=315_360_000.0)], {})
    assert sentence.startswith("base: 90.00 % top-1 accuracy after 10 years (extrapolated), 1.73 points below")


def test_a_life_beyond_what_was_measured(make_row):
    def sentence(last_s):
        courses = ((60.0, 91.0), (600.0, 91.5), (31_536_000.0, 92.0), (315_360_000.0, 40.0))
        week = {"measured_s": [1.0, last_s]}
        return in_words([make_row(week, age_s=age_s, value=value) for age_s, value in courses], {})[0]

    assert sentence(604_800.0).endswith(
        "The mean falls below that between 1 year (extrapolated) and 10 years (extrapolated)."
    )
    assert sentence(1e9).endswith("The mean falls below that between 1 year and 10 years.")


@pytest.mark.parametrize(
    ("n_chips", "bad", "words"),
    [
        (10, 1, "9 of 10 chips lose at most 1 point, which misses the yield of 99 %. The yield falls below that"),
        (10, 0, "which shows a yield of 74 % (with 95 % confidence: 99 % takes 299 chips, all good). The yield keeps"),
        (299, 0, "299 of 299 chips lose at most 1 point, which shows the yield of 99 %. The yield keeps at 99 % or"),
    ],
)
def test_what_chips_show_of_a_yield(make_row, n_chips, bad, words):
    rows = [
        make_row(age_s=age, chip_seed=chip, value=80.0 if chip < bad and age > 3600 else 91.0)
        for age in (3600.0, 315_360_000.0)
        for chip in range(n_chips)
    ]
    (sentence,) = in_words(rows, {}, Criteria(yield_percent=99))
    assert words in sentence


def test_in_short_the_best_network_and_the_pretrained_one(make_row):
    means = {"base": (91.0, 80.0), "finetuned": (91.5, 91.2)}
    rows = [
        make_row(network=network, age_s=age_s, value=value + chip / 10, chip_seed=2_000_000 + chip)
        for network, values in means.items()
        for age_s, value in zip((3600.0, 315_360_000.0), values, strict=True)
        for chip in (0, 1)
    ]
    best, sure, without = in_short(rows)
    assert best.replace("\u00a0", " ") == (
        "After 10 years, the finetuned network keeps 99.5 % of the digital accuracy: 91.25 % top-1 accuracy of 91.73 %."
    )
    assert sure == "2 of 2 chips lose at most 1 point; the mean stays within that at all evaluated ages."
    assert without.replace("\u00a0", " ") == "The pretrained network keeps 87.3 % (80.05 %)."


def test_in_short_the_best_of_an_error_is_the_lowest(make_row):
    means = {"base": 30.0, "finetuned": 12.0}
    rows = [make_row(network=name, metric="rmse", base_digital=10.0, value=value) for name, value in means.items()]
    best, without = in_short(rows)
    assert "the finetuned network has 12.00 rmse, the digital network 10.00." in best
    assert without == "The pretrained network has 30.00."
