"""Several devices in one table and one figure."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from hwaware.report.html import write_report
from hwaware.report.labels import device_names, heading, varying_params
from hwaware.report.run_folder import print_tables, write_rows_and_plots
from hwaware.report.side_by_side import best_devices, few_grids, plot_side_by_side, several, side_by_side
from hwaware.report.tables import rich_table
from hwaware.results.setting import by_setting

MEANS = {"base": (91.6, 91.2, 90.8, 90.4, 90.0, 89.4, 88.6), "finetuned": (91.7, 91.6, 91.6, 91.5, 91.4, 91.3, 91.1)}


@pytest.fixture
def three(make_rows):
    """Two networks on a device in two mappings, and in one of them with another scale; one was measured for a week."""
    lower = {name: tuple(value - 3 for value in values) for name, values in MEANS.items()}
    return [
        *make_rows(means=MEANS),
        *make_rows(means=lower, mapping="offset"),
        *make_rows(means=MEANS, params={"scale": "channel", "kappa": None}),
    ]


def test_titles_differ_where_devices_do(three, make_rows):
    rows = [*three, *make_rows(means=MEANS, device="pcm"), *make_rows(means=MEANS, params={"layers": {"a": {}}})]
    rows += make_rows(means=MEANS, params={"layers": {"b": {}}})
    titles = [heading(same, varying_params(rows))[0] for same in by_setting(rows).values()]
    assert titles[:4] == [
        "cifar_resnet20 on cifar10 · reram_cmo, differential, scale per tensor, κ = 2",
        "cifar_resnet20 on cifar10 · reram_cmo, offset, scale per tensor, κ = 2",
        "cifar_resnet20 on cifar10 · reram_cmo, differential, scale per channel, linear cells",
        "cifar_resnet20 on cifar10 · pcm, differential, scale per tensor, κ = 2",
    ]
    # Two placements of as many layers have the same words.
    names = list(device_names(rows).values())
    assert len(set(names)) == 6 and names[-1] == f"{names[-2]} (2)"


def test_one_table_has_a_line_for_each_network_on_each_device(three):
    (grid,) = few_grids(three)
    devices = ("differential, scale per tensor, κ = 2", "offset, scale per tensor, κ = 2")
    devices += ("differential, scale per channel, linear cells",)
    assert grid.lines == tuple(f"{network} · {device}" for network in MEANS for device in devices)
    assert grid.title == "cifar_resnet20 on cifar10 · reram_cmo: 3 side by side"
    assert grid.conditions == "9–88.2 µS · clamp window · r = 1 · top-1 accuracy (%) · 10 chips · 10,000 samples"
    for place, line in enumerate(grid.lines):
        network, on = line.split(" · ")
        (mapping, scale) = on.split(", ")[0], "channel" if "channel" in on else "tensor"
        values = [
            row.value for row in three
            if (row.network, row.mapping, row.age_s) == (network, mapping, 315_360_000.0) and scale in row.device_params
        ]  # fmt: skip
        assert grid.ages["10 years"][place].mean == pytest.approx(sum(values) / len(values)) and len(values) == 10
    # Gains are over the base on the same device.
    assert grid.gains[:3] == ("", "", "") and all(gain.startswith("+2.") for gain in grid.gains[3:])
    assert grid.lifetimes[4] == "0 s" and grid.lifetimes[3] == "> 10 years"


def test_a_device_alone_has_its_own_table(rows, make_rows):
    assert not several(rows)
    assert [grid.title for grid in few_grids(rows)] == ["cifar_resnet20 on cifar10 · reram_cmo, differential"]
    two = [*rows, *make_rows(metric="top5")]
    assert len(few_grids(two)) == 2 and not several(two)


def test_ages_are_starred_where_one_device_was_not_measured(make_rows):
    rows = [*make_rows(means=MEANS), *make_rows(means=MEANS, device="mine", params={"measured_s": [1.0, 604_800.0]})]
    grid = side_by_side(rows, {})
    assert list(grid.ages)[3:5] == ["1 week", "1 month *"]
    assert "> 10 years" in grid.lifetimes and "> 10 years *" in grid.lifetimes


@pytest.mark.parametrize("width", [80, 120, 200])
def test_nothing_is_cut_off_in_a_terminal(three, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    print_tables(three)
    printed = capsys.readouterr().out
    assert printed.count("side by side") == 1
    for value in ("years", "91.7", "88.2"):
        assert value in printed
    (grid,) = few_grids(three)
    table = rich_table(grid, width)
    console = Console(width=width)
    assert console.measure(table).minimum <= width


def test_one_figure(three, tmp_path):
    path = plot_side_by_side(three, tmp_path / "a.png")
    texts = set(re.findall(r"<!-- (.*?) -->", path.with_suffix(".svg").read_text(encoding="utf-8")))
    lines = {f"{network} · offset, scale per tensor, κ = 2" for network in MEANS}
    assert lines | {"base digital", "± 1 std over chips", "age since programming (log scale)"} <= texts
    assert "10 years" in texts or {"10", "years"} <= texts  # the unit may stand below


def test_report_and_files(three, tmp_path):
    sections = write_rows_and_plots(three, tmp_path, {})
    assert len(sections) == 4 and (tmp_path / "plots" / "devices_top1.svg").is_file()
    page = write_report(tmp_path, sections).read_text()
    titles = re.findall(r"<h3>(.*?)</h3>", page[page.index('id="tables"') :])
    assert titles[0].endswith("3 side by side") and len(set(titles[:4])) == 4
    assert "finetuned after 10 years: best, 91." in page and "worst, 88." in page


def test_which_device_is_best(three):
    base, finetuned = best_devices(three)
    assert base.startswith("base after 10 years: best, 88.") and " on offset, scale per tensor, κ = 2." in base
    assert finetuned.startswith("finetuned after 10 years: best, 91.")


def test_other_samples_have_a_figure_of_their_own(make_row, tmp_path):
    rows = [make_row(mapping=mapping, n_samples=n, value=value)
            for n, value in ((100, 90.0), (200, 50.0)) for mapping in ("differential", "offset")]  # fmt: skip
    figures = [figure for section in write_rows_and_plots(rows, tmp_path, {}) for figure in section.figures]
    assert len(set(figures)) == len(figures)
