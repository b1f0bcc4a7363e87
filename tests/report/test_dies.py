from hwaware.report.dies import die_tables
from hwaware.report.html import Section, write_report
from hwaware.report.labels import heading
from hwaware.report.run_folder import print_tables

SPREAD = {"drift_mean": 0.2, "window": 0.05, "chips_per_die": 2}


def _rows(make_row):
    values = {0.0: (90.0, 90.2, 88.0, 88.2), 3600.0: (89.0, 87.0, 88.5, 86.5)}
    return [
        make_row({"die_spread": SPREAD}, age_s=age_s, chip_seed=2_000_000 + chip, value=value)
        for age_s, found in values.items()
        for chip, value in enumerate(found)
    ]


def test_a_table_of_the_parts(make_row, tmp_path, capsys):
    rows = _rows(make_row)
    (table,) = die_tables(rows)
    assert table.columns == ("0 s", "1 h")
    (line,) = table.lines
    assert (
        line[0] == "base" and line[1].startswith("1.41 / 0.14 (99 %, ") and line[2].startswith("0.00 / 1.41 (0 %, 0–")
    )
    assert "die to die ± 20 % drift mean, 5 % window; 2 chips a die · 4 chips" in table.title
    print_tables(rows)
    assert "1.41 / 0.14" in capsys.readouterr().out
    assert "1.41 / 0.14" in write_report(tmp_path, [Section(rows, [])]).read_text()


def test_headings_name_the_spread_and_nothing_without(make_row):
    assert heading(_rows(make_row))[1].count("die to die ± 20 % drift mean, 5 % window; 2 chips a die") == 1
    assert "die" not in heading([make_row()])[1] and not die_tables([make_row()])
