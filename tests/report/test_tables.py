import io
import re
from dataclasses import replace

import numpy as np
import scipy.stats
from rich.console import Console

from hwaware.report.tables import grids, markdown, markdown_table, rich_table
from hwaware.results.criteria import CRITERIA, Criteria
from hwaware.results.hits import HitLine, Hits


def _cells(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def _expected(rows, network, age_s):
    values = [row.value for row in rows if (row.network, row.age_s) == (network, age_s)]
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} ({min(values):.2f})"


def _gain(rows, network):
    """Over base at ten years, as scipy has it."""
    last = [[row.value for row in rows if (row.network, row.age_s) == (n, 315_360_000.0)] for n in (network, "base")]
    difference = np.subtract(*last)
    low, high = scipy.stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    return f"{difference.mean():+.2f} ± {(high - low) / 2:.2f}"


def test_markdown_has_a_row_per_network_and_a_column_per_age(rows):
    header, rule, base, *networks = _cells(markdown_table(rows))
    assert header == [
        "network", "drift-free", "0 s", "1 h", "1 day", "1 week", "1 month", "1 year", "10 years", "life to −1 point",
        "over base at 10 years (95 %)",
    ]  # fmt: skip
    assert rule == ["---"] + ["---:"] * 10
    assert base == ["base digital", "91.73"] + [""] * 9
    assert [cells[0] for cells in networks] == ["base_uncorrected", "base", "finetuned"]
    for cells in networks:
        assert cells[1] == "91.70"
        assert cells[2:9] == [_expected(rows, cells[0], age) for age in sorted({row.age_s for row in rows})]
    assert [cells[9] for cells in networks] == ["0 s", "1 day to 1 week", "> 10 years"]
    assert [cells[10] for cells in networks] == [_gain(rows, "base_uncorrected"), "", _gain(rows, "finetuned")]


def test_markdown_starts_with_device_mapping_and_conditions(rows):
    first, second, *_ = markdown_table(rows).splitlines()
    assert first.startswith("**cifar_resnet20 on cifar10 · reram_cmo, differential** · 9–88.2 µS · scale per tensor · ")
    assert "10 chips · 10,000 samples" in first and not second


def test_markdown_keeps_settings_apart(make_rows):
    markdown = markdown_table(make_rows() + make_rows(mapping="offset") + make_rows(metric="top5"))
    assert re.findall(r"\*\*.* · reram_cmo, (\w+)\*\*", markdown) == ["differential", "offset", "differential"]


def test_markdown_names_the_parameter_that_differs(make_rows):
    markdown = markdown_table(make_rows(params={"x": 0.1}) + make_rows(params={"x": 0.2}))
    assert re.findall(r"differential, (x = [\d.]+)\*\*", markdown) == ["x = 0.1", "x = 0.2"]
    assert "drift_mean_slope_us = -0.089**" in markdown_table(make_rows(), ["drift_mean_slope_us"])


def test_a_pipe_in_a_name_does_not_make_a_column(make_row):
    *_, last = _cells(markdown_table([make_row(network="a|b")]))
    assert last[0] == "a\\|b" and len(last) == 4


def test_a_percentile_is_that_of_enough_chips(make_rows):
    rows = make_rows(n_chips=20)
    low = [row.value for row in rows if (row.network, row.age_s) == ("base", 0.0)]
    *_, base, _ = _cells(markdown(grids(rows)))
    assert base[2].endswith(f"({np.percentile(low, 5):.2f})")
    *_, base, _ = _cells(markdown(grids(rows, criteria=Criteria(percentile=1))))
    assert base[2].endswith(f"({min(low):.2f})")
    assert "(5th-percentile chip)" in _terminal(rows) and "(worst chip)" in _terminal(rows, Criteria(percentile=1))
    fewer = [row for row in rows if row.network == "base" or row.chip_seed < 2_000_003]
    assert "5th-percentile chip, the worst of fewer than 20" in " ".join(_terminal(fewer).split())


def test_a_yield_that_is_missed_is_marked(rows):
    text = _terminal(rows, Criteria(yield_percent=99))
    assert "yield at 10 years, 99 % asked" in text and "70 % (missed)" in text
    assert _terminal(rows, Criteria(2, yield_percent=99)).count("(missed)") == 2  # finetuned no longer


def test_missing_ages_and_single_chips(make_row):
    rows = [make_row(), make_row(age_s=60.0, value=89.5), make_row(network="finetuned", age_s=60.0)]
    *_, base, finetuned = _cells(markdown_table(rows))
    assert base == ["base", "91.70", "90.00", "89.50", "–", ""]
    assert finetuned == ["finetuned", "91.70", "–", "90.00", "–", "+0.50"]


def _terminal(rows, criteria=CRITERIA, width=110):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))
    for grid in grids(rows, criteria=criteria):
        console.print(rich_table(grid, width))
    return console.export_text()


def test_terminal_has_a_row_per_age_and_a_column_per_network(rows):
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in _terminal(rows).splitlines() if "│" in line]
    by_name = {cells[0]: cells[1:] for cells in lines}
    assert list(by_name) == [
        "base digital", "drift-free", "0 s", "1 h", "1 day", "1 week", "1 month", "1 year", "10 years",
        "life to −1 point", "yield at 10 years", "over base at 10 years",
    ]  # fmt: skip
    networks = ("base_uncorrected", "base", "finetuned")
    assert by_name["base digital"] == ["91.73"] * 3
    assert by_name["10 years"] == [_expected(rows, network, 315_360_000.0) for network in networks]
    assert by_name["yield at 10 years"] == ["0 %", "0 %", "70 %"]
    assert by_name["life to −1 point"] == ["0 s", "1 day to 1 week", "> 10 years"]


def test_terminal_table_fits_80_columns_and_says_what_its_cells_are(rows):
    text = _terminal(rows, width=90)
    assert max(len(line) for line in text.splitlines()) <= 90
    flat = " ".join(text.split())
    assert "reram_cmo, differential" in flat and "(worst chip)" in flat and "drift_mean_slope_us = -0.089" in flat
    assert "…" not in text


def test_a_narrow_table_s_words_are_not_broken_at_its_end(make_row):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rich_table(grids([make_row()])[0]))
    lines = console.export_text().splitlines()
    below = lines[max(number for number, line in enumerate(lines) if "┘" in line) + 1 :]
    assert len(below) == 1 or max(map(len, (line.strip() for line in below))) > 55


def test_gains_over_a_network_on_other_cells_but_the_same_chips(make_rows):
    """An ablation's networks run on cells with another curve; a chip is known by its seed."""
    plain = make_rows(means={"plain": (90.0,) * 7}, params={"kappa": None})
    better = make_rows(means={"better": (91.0,) * 7})
    *_, last = _cells(markdown_table(plain + better, against="plain"))
    assert last[0] == "better" and last[-1].startswith("+1.00 ± 0.00")


def test_no_gain_over_a_network_that_met_other_chips(make_row):
    rows = [make_row(), make_row(network="finetuned", chip_seed=5)]
    assert "over base" not in markdown_table(rows)


def test_training_seeds_are_no_further_chips(make_rows):
    rows = [row for seed in range(3) for row in make_rows(seed=seed)]
    one, three = markdown_table(make_rows()), markdown_table(rows)
    assert "10 chips · 10,000" in one and "10 chips × 3 training seeds · 10,000" in three
    assert _cells(one)[-1][-1] == _cells(three)[-1][-1]  # the interval is not a third as wide


def test_ages_beyond_what_was_measured_are_starred(make_rows):
    week = {"measured_s": [1.0, 604_800.0]}
    markdown = markdown_table(make_rows(params=week))
    assert _cells(markdown)[0][2:9] == ["0 s", "1 h", "1 day", "1 week", "1 month *", "1 year *", "10 years *"]
    assert "* extrapolated: beyond the ages at which cells were measured" in markdown.splitlines()[0]
    assert [cells[9] for cells in _cells(markdown)[3:]] == ["0 s", "1 day to 1 week", "> 10 years *"]
    # A week at 85 °C is worth years at the temperature of the measurement.
    hot = markdown_table(make_rows(params=week | {"temperature_c": 85.0, "activation_energy_ev": 1.1}))
    assert _cells(hot)[0][2:5] == ["0 s", "1 h *", "1 day *"]
    assert "extrapolated" not in markdown_table(make_rows())


def _hits(rows, draw):
    """Hits that give each row's value."""
    lines = [HitLine.of(row, draw.permutation(row.n_samples) < round(row.value * row.n_samples / 100)) for row in rows]
    return Hits("of these samples", tuple(lines))


def test_with_hits_gains_have_an_interval_over_samples_as_well(make_row):
    ages = (0.0, 3600.0)
    values = {"base": (80.0, 81.0, 82.0), "finetuned": (84.0, 84.5, 85.0)}
    rows = [
        make_row(network=network, age_s=age_s, chip_seed=chip, value=value, n_samples=1000)
        for network, of_chips in values.items() for age_s in ages for chip, value in enumerate(of_chips)
    ]  # fmt: skip
    hits = _hits(rows, np.random.default_rng(0))
    header, *_, base, finetuned = _cells(markdown(grids(rows, hits=hits)))
    assert header[-1] == "over base at 1 h, chips and samples (95 %)" and base[-1] == ""
    mean, margin = map(float, finetuned[-1].split(" ± "))
    _, over_chips = map(float, _cells(markdown_table(rows))[-1][-1].split(" ± "))
    assert mean == 3.5 and margin > over_chips > 0
    # What has hits of some rows alone keeps to chips in all of them.
    few = Hits(hits.samples, hits.lines[:-1])
    assert markdown(grids(rows, hits=few)) == markdown_table(rows)
    assert markdown(grids(rows + [replace(row, seed=1) for row in rows], hits=hits)).count("chips and samples") == 0
