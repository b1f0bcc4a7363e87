import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from hwaware.errors import UserError
from hwaware.results.hits import HitLine, Hits, gain_over_samples, read_hits, write_hits
from hwaware.results.summary import paired_gain


@pytest.fixture
def measure(make_row):
    """Rows of one network on some chips, and their hits ``[n_chips, n_samples]``."""

    def measured(table, samples="these", **changes):
        table = np.asarray(table, dtype=bool)
        rows = [
            make_row(chip_seed=chip, value=100 * hits.mean(), n_samples=len(hits), **changes)
            for chip, hits in enumerate(table)
        ]
        return rows, Hits(samples, tuple(map(HitLine.of, rows, table)))

    return measured


TABLE = [[1, 1, 0, 1, 1, 0, 0, 1, 1, 1], [1, 0, 0, 1, 1, 0, 1, 1, 1, 1]]


def test_hits_read_back_as_they_were(tmp_path, measure):
    rows, hits = measure(TABLE)
    read = read_hits(write_hits(tmp_path / "run" / "hits.npz", hits), [*rows, replace(rows[0], metric="top5")])
    assert read.samples == "these" and read.has(rows) and not read.has([replace(rows[0], age_s=1.0)])
    assert np.array_equal([read.of(rows)[chip] for chip in (0, 1)], np.array(TABLE, dtype=bool))


def test_a_bit_per_sample_is_little(tmp_path, measure):
    _, hits = measure(np.random.default_rng(0).random((10, 10_000)) < 0.9)
    assert write_hits(tmp_path / "hits.npz", hits).stat().st_size < 13_500


def test_hits_that_do_not_give_the_row_s_value_are_refused(make_row):
    with pytest.raises(UserError, match=r"hits give 50.0000 % of 4 samples, but 'top1' is 75.0 % of 4"):
        HitLine.of(make_row(value=75.0, n_samples=4), [True, False, True, False])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "has hits of another run: base with none on chip 0 at 0.0 s is in none of the rows"),
        ({"recipe": "other"}, "in none of the rows"),
        ({"n_samples": 1000}, "in none of the rows"),
        ({"value": 60.0}, "has hits of another run: base with none on chip 0 at 0 s has other than the rows' 60.0 %"),
    ],
)
def test_hits_of_another_run_are_refused_in_one_line(tmp_path, measure, change, message):
    rows, hits = measure(TABLE)
    path = write_hits(tmp_path / "hits.npz", hits)
    with pytest.raises(UserError, match=message) as error:
        read_hits(path, [replace(row, **change) for row in rows])
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_hits_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="keep_hits"):
        read_hits(tmp_path / "hits.npz", [])
    (tmp_path / "hits.npz").write_text("recipe,model\n")
    with pytest.raises(UserError, match="is not a file of hits"):
        read_hits(tmp_path / "hits.npz", [])
    np.savez(tmp_path / "hits.npz", bits=np.zeros(3))
    with pytest.raises(UserError, match="is not a file of hits"):
        read_hits(tmp_path / "hits.npz", [])


def test_a_gain_pairs_chips_and_samples(measure):
    (rows, hits), (others, theirs) = measure(TABLE, network="finetuned"), measure(np.roll(TABLE, 1, axis=1))
    gain = gain_over_samples(rows, others, hits, theirs)
    assert gain.mean == pytest.approx(0.0) and gain.n_pairs == 2 and gain.margin > 0
    both = Hits("these", hits.lines + theirs.lines)
    assert gain_over_samples(rows, others, both) == gain
    # A chip more on one side does not count; a single one has no interval over chips.
    assert gain_over_samples(rows[:1], others, both).n_pairs == 1
    assert math.isnan(gain_over_samples(rows[:1], others, both).margin)
    assert gain_over_samples(rows, others, hits) is None


def test_other_samples_and_other_seeds_cannot_be_paired(measure):
    (rows, hits), (others, theirs) = measure(TABLE), measure(TABLE, samples="those", network="finetuned")
    with pytest.raises(UserError, match="to different samples"):
        gain_over_samples(others, rows, theirs, hits)
    others, theirs = measure(TABLE, seed=1, network="finetuned")
    with pytest.raises(UserError, match="within one training seed, not 0, 1"):
        gain_over_samples(others, rows, theirs, hits)


@pytest.mark.parametrize("of_chips", [0.1, 0.02], ids=["chips differ", "chips hardly differ"])
def test_an_interval_over_chips_and_samples_covers_what_it_says(measure, of_chips):
    """By simulation: a network is right where a sum over sample, chip and both is above 0; the true gain is known."""
    draw, trials = np.random.default_rng(0), 500
    n_chips, n_samples, offsets, of_sample, of_network, of_both = 10, 500, (1.0, 1.2), 1.0, 0.5, 0.7
    true = [100 * ndtr(one / math.hypot(of_chips, of_sample, of_network, of_both)) for one in offsets]
    covered = np.zeros(2)
    for _ in range(trials):
        easy, sides = of_sample * draw.normal(size=n_samples), []
        for network, offset in zip(("base", "finetuned"), offsets, strict=True):
            of_all = offset + easy + of_network * draw.normal(size=n_samples)
            own = of_chips * draw.normal(size=(n_chips, 1)) + of_both * draw.normal(size=(n_chips, n_samples))
            sides.append(measure(of_all + own > 0, network=network))
        (reference, theirs), (rows, hits) = sides
        gains = gain_over_samples(rows, reference, hits, theirs), paired_gain(rows, reference)
        covered += [abs(gain.mean - (true[1] - true[0])) <= gain.margin for gain in gains]
    both, over_chips = 100 * covered / trials
    assert 93.0 <= both <= 97.0 and over_chips < 92.0  # other samples are no part of the latter
