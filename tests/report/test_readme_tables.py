import importlib.util
import re
import sys
from dataclasses import replace

import pytest

from hwaware.errors import UserError
from hwaware.report.tables import markdown_table
from hwaware.results.csv import write_rows
from hwaware.results.hits import HitLine, Hits, write_hits
from hwaware.results.summary import summarise
from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "scripts" / "readme_tables.py")
readme_tables = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readme_tables)


@pytest.fixture
def every(make_rows):
    return (
        make_rows()
        + make_rows(mapping="offset")
        + make_rows(params={"kappa": None})
        + make_rows(device="reram_relative", params={"relative_drift": 0.1})
        + make_rows(device="reram_relative", params={"relative_drift": 0.2})
    )


@pytest.fixture
def readme(tmp_path, every):
    """A function that writes a README with one block per argument, beside results/x/rows.csv."""
    write_rows(tmp_path / "results" / "x" / "rows.csv", every)

    def write(*sources):
        path = tmp_path / "README.md"
        blocks = [f"before {i}\n\n<!-- table: {source} -->\nold\n<!-- /table -->\n" for i, source in enumerate(sources)]
        path.write_text("# Title\n\n" + "\n".join(blocks) + "\nafter\n", encoding="utf-8")
        return path

    return write


def _run(path, *arguments):
    return readme_tables.main([*arguments, str(path)])


def _contents(path):
    return re.findall(
        r"<!-- table: [^\n]*-->\n\n(.*?)\n\n<!-- /table", path.read_text(encoding="utf-8"), flags=re.DOTALL
    )


def test_every_block_gets_its_table_and_the_rest_stays(readme, every):
    path = readme(
        "results/x/rows.csv mapping=offset", "results/x/rows.csv device=reram_cmo mapping=differential kappa=2"
    )
    assert _run(path) == 0
    offset = [row for row in every if row.mapping == "offset"]
    differential = [row for row in every[: len(offset)] if row.mapping == "differential"]
    # The device's rows differ in κ, which both titles therefore name.
    assert _contents(path) == [markdown_table(offset, ["kappa"]), markdown_table(differential, ["kappa"])]
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Title\n\nbefore 0\n\n<!-- table: ") and text.endswith("<!-- /table -->\n\nafter\n")
    assert "old" not in text
    assert _run(path) == 0 and path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kappa", ["kappa=2", "kappa=2.0"])
def test_a_number_is_the_same_however_written(readme, kappa):
    path = readme(f"results/x/rows.csv device=reram_cmo mapping=differential {kappa}")
    assert _run(path) == 0 and len(_contents(path)[0].split("**")) == 3 and "κ = 2" in _contents(path)[0]


def test_null_is_a_parameter_that_a_device_lacks(readme):
    path = readme("results/x/rows.csv device=reram_cmo kappa=null")
    assert _run(path) == 0 and "linear cells" in _contents(path)[0] and "κ" not in _contents(path)[0]


def test_networks_are_chosen_and_ordered(readme):
    path = readme("results/x/rows.csv mapping=offset networks=finetuned,base")
    assert _run(path) == 0
    rows = [line.split("|")[1].strip() for line in _contents(path)[0].splitlines() if line.startswith("|")]
    assert rows == ["network", "---", "base digital", "finetuned", "base"]


def test_a_table_names_what_its_device_s_other_tables_differ_in(readme):
    path = readme("results/x/rows.csv device=reram_relative relative_drift=0.2")
    assert _run(path) == 0 and "reram_relative, differential, relative_drift = 0.2**" in _contents(path)[0]


def test_check_names_what_is_out_of_date_and_writes_nothing(readme, capsys, tmp_path, every):
    path = readme("results/x/rows.csv mapping=offset", "results/x/rows.csv device=reram_cmo kappa=null")
    before = path.read_text(encoding="utf-8")
    assert _run(path, "--check") == 1
    assert "README.md, line 5: out of date: results/x/rows.csv mapping=offset" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == before
    _run(path)
    capsys.readouterr()
    assert _run(path, "--check") == 0 and not capsys.readouterr().out
    # One chip of one network measured otherwise: that table, and no other.
    changed = [row for row in every if row.mapping != "offset"] + [row for row in every if row.mapping == "offset"][1:]
    write_rows(tmp_path / "results" / "x" / "rows.csv", changed)
    assert _run(path, "--check") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "mapping=offset" in line


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("results/none/rows.csv", "no rows at"),
        (
            "results/x/rows.csv mapping=offsett",
            "no row that is left has mapping=offsett; there is differential, offset.",
        ),
        ("results/x/rows.csv kapa=2.0", "neither field nor parameter 'kapa'. Did you mean 'kappa'?"),
        ("results/x/rows.csv kappa=3", "no row that is left has kappa=3; there is 2.0, null."),
        ("results/x/rows.csv mapping=offset kappa=null", "no row that is left has kappa=null; there is 2.0."),
        ("results/x/rows.csv networks=base,other", "no row that is left has network=other"),
        ("results/x/rows.csv mapping", "is not 'PATH field=value …'"),
    ],
)
def test_a_block_that_cannot_be_made_is_named(readme, capsys, source, message):
    path = readme("results/x/rows.csv mapping=offset", source)
    before = path.read_text(encoding="utf-8")
    for arguments in ([], ["--check"]):
        assert _run(path, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error and "README.md: line 11: " in error and len(error.splitlines()) <= 2
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no table", "there is no '<!-- table"),
        ("<!-- table: a -->\n", "is never ended"),
        ("a\n<!-- /table -->\n", "line 2: .* ends no table"),
        ("<!-- table: a -->\n<!-- table: b -->\n<!-- /table -->\n", "line 2: .* before the last table ends"),
    ],
)
def test_markers_come_in_pairs(tmp_path, capsys, text, message):
    path = tmp_path / "README.md"
    path.write_text(text)
    assert _run(path) == 2
    assert re.search(message, capsys.readouterr().err)


HEADLINE = """
- what: a network
  rows: x/rows.csv
  where: {mapping: offset, age_s: 3600}
  chip: {network: base}
  repaired: {network: finetuned}
  by: training
"""


def test_a_line_for_each_comparison(readme, every, capsys):
    path = readme("results/headline.yaml")
    file = path.parent / "results" / "headline.yaml"
    file.write_text(HEADLINE)
    assert _run(path) == 0
    (table,) = _contents(path)
    wanted = [row for row in every if row.mapping == "offset" and row.age_s == 3600 and row.metric == "top1"]
    chip, repaired = (summarise([row for row in wanted if row.network == name])[0] for name in ("base", "finetuned"))
    line = f"{chip.base_digital:.2f} | {chip.mean:.2f} ± {chip.std:.2f} | training | "
    line += f"{repaired.mean:.2f} ± {repaired.std:.2f} | {100 * repaired.mean / repaired.base_digital:.1f} % |"
    assert table.splitlines()[2] == f"| a network | {chip.n_samples:,} | offset | {line}"
    file.write_text(HEADLINE.replace("chip: {network: base}", "chip: {}"))
    assert _run(path) == 2
    assert "'a network', chip: 3 lines of rows are left, not one" in capsys.readouterr().err
    path = readme("few=results/headline.yaml")
    file.write_text(HEADLINE + HEADLINE.replace("what: a", "what: another").replace("  by", "  in_readme: true\n  by"))
    assert _run(path) == 0
    assert _contents(path)[0].splitlines()[2:] == [f"| another network | {line}"]


def test_a_comparison_over_two_files_is_of_one_network_on_one_test_set(readme, every, capsys):
    path = readme("results/headline.yaml")
    file = path.parent / "results" / "headline.yaml"
    file.write_text(HEADLINE.replace("{network: finetuned}", "{network: finetuned, rows: y/rows.csv}"))
    write_rows(path.parent / "results" / "y" / "rows.csv", every)
    assert _run(path) == 0
    write_rows(path.parent / "results" / "y" / "rows.csv", [replace(row, base_digital=50.0) for row in every])
    assert _run(path) == 2
    assert "'a network': its chips are not those of the same network on the same samples" in capsys.readouterr().err


def test_a_missing_readme(tmp_path, capsys):
    assert _run(tmp_path / "README.md") == 2
    assert "README.md" in capsys.readouterr().err


def test_devices_are_listed_once_a_page(readme):
    tables = ("results/x/rows.csv device=reram_cmo kappa=2", "results/x/rows.csv device=reram_relative")
    path = readme(*tables, "devices")
    assert _run(path) == 0
    *shown, devices = _contents(path)
    assert not any("Device:" in one for one in shown)
    assert devices.splitlines() == [
        "* `reram_cmo`: drift_mean_slope_us = -0.089",
        "* `reram_relative`: drift_mean_slope_us = -0.089, relative_drift = 0.1; "
        "drift_mean_slope_us = -0.089, relative_drift = 0.2",
    ]
    assert _run(path, "--check") == 0
    path = readme(*tables)
    assert _run(path) == 0 and all("Device:" in one for one in _contents(path))


def test_devices_of_a_page_without_any(readme, tmp_path, capsys):
    (tmp_path / "results" / "speed.csv").write_text("workload,ratio\na,1.1\n")
    assert _run(readme("results/speed.csv columns=workload,ratio", "devices")) == 2
    assert "'devices': no table of the page has a device" in capsys.readouterr().err


def test_columns_of_any_csv_file(readme, tmp_path):
    (tmp_path / "results" / "speed.csv").write_text("workload,ratio,commit\na,1.1,x\nb,1.2,x\n")
    path = readme("results/speed.csv columns=workload,ratio")
    assert _run(path) == 0
    assert _contents(path) == ["| workload | ratio |\n| --- | ---: |\n| a | 1.1 |\n| b | 1.2 |"]


def test_lines_are_counted_by_value(readme, tmp_path):
    (tmp_path / "results" / "census.csv").write_text("name,status\na,refused\nb,ok\nc,ok\n")
    path = readme("results/census.csv count=status")
    assert _run(path) == 0
    assert _contents(path) == ["| status | lines |\n| --- | ---: |\n| ok | 2 |\n| refused | 1 |\n| all | 3 |"]


def test_a_column_that_is_not_there_is_named(readme, tmp_path, capsys):
    (tmp_path / "results" / "speed.csv").write_text("workload,ratio\na,1.1\n")
    assert _run(readme("results/speed.csv columns=workload,ration")) == 2
    assert "no column 'ration'. Did you mean 'ratio'?" in capsys.readouterr().err


def test_hits_beside_rows_widen_the_interval_to_samples(readme, tmp_path, make_row):
    rows = [
        make_row(network=network, chip_seed=chip, value=value, n_samples=100)
        for network, of_chips in {"base": (80.0, 81.0), "finetuned": (84.0, 84.0)}.items()
        for chip, value in enumerate(of_chips)
    ]
    folder = tmp_path / "results" / "y"
    write_rows(folder / "rows.csv", rows)
    lines = tuple(HitLine.of(row, [n < row.value for n in range(100)]) for row in rows)
    write_hits(folder / "hits.npz", Hits("these", lines))
    path = readme("results/y/rows.csv metric=top1 hits=results/y/hits.npz")
    assert _run(path) == 0 and "over base at 0 s, chips and samples (95 %)" in _contents(path)[0]


def test_hits_of_other_rows_are_refused(readme, tmp_path, make_row, capsys):
    row = make_row(value=80.0, n_samples=100, chip_seed=7)
    hits = Hits("these", (HitLine.of(row, [n < 80 for n in range(100)]),))
    write_hits(tmp_path / "results" / "x" / "hits.npz", hits)
    assert _run(readme("results/x/rows.csv mapping=offset hits=results/x/hits.npz")) == 2
    assert "has hits of another run" in capsys.readouterr().err


def test_a_page_shows_how_chips_variance_parts(make_row, tmp_path, capsys):
    spread = {"drift_mean": 0.2, "chips_per_die": 2}
    rows = [
        make_row({"die_spread": spread}, chip_seed=2_000_000 + chip, value=value)
        for chip, value in enumerate((90.0, 90.2, 88.0, 88.2))
    ]
    write_rows(tmp_path / "rows.csv", [*rows, make_row()])
    page = tmp_path / "README.md"
    page.write_text("<!-- table: rows.csv die_spread.drift_mean=0.2 show=dies -->\n<!-- /table -->\n")
    assert readme_tables.main([str(page)]) == 0 and "| base | 1.41 / 0.14 (99 %, " in page.read_text()
    for wrong, reason in (("die_spread=null show=dies", "no two chips of a die"), ("show=die", "Did you mean 'dies'")):
        page.write_text(f"<!-- table: rows.csv {wrong} -->\n<!-- /table -->\n")
        assert readme_tables.main([str(page)]) == 2 and reason in capsys.readouterr().err


def test_two_parameters_crossed(make_row):
    adcs = {bits: {"converters": {"adc_bits": bits}} for bits in (4, 6)}
    rows = [make_row(params=params | {"rows": 64}, value=80.0 + bits) for bits, params in adcs.items()]
    rows += [make_row(params=params, value=80.0 + bits) for bits, params in adcs.items()]  # 512 is usual
    lines = readme_tables.crossed([*rows, make_row()], "rows", "converters.adc_bits").splitlines()
    assert lines[0] == "| rows \\ converters.adc_bits | 4 | 6 |"
    assert lines[2:] == ["| 64 | 84.0 | 86.0 |", "| 512 | 84.0 | 86.0 |"]
    with pytest.raises(UserError, match=r"several lines of rows have rows=64 and converters.adc_bits=4"):
        readme_tables.crossed([*rows, replace(rows[0], network="finetuned")], "rows", "converters.adc_bits")
    with pytest.raises(UserError, match="no row has both rows and kappas"):
        readme_tables.crossed(rows, "rows", "kappas")
