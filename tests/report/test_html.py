"""The report: one page with everything in it."""

from __future__ import annotations

import re
import xml.dom.minidom
from base64 import b64decode
from html.parser import HTMLParser

import pytest

from hwaware.report.html import Section, write_report
from hwaware.report.plots import plot_accuracy
from hwaware.results.criteria import Criteria
from hwaware.results.csv import write_rows

VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """What a page shows, and whether its tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.cells = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append([attributes.get("class", ""), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1][1] += data


@pytest.fixture
def page(tmp_path, rows):
    (tmp_path / "config.yaml").write_text("model: {name: <resnet20>}")
    (tmp_path / "conversion.csv").write_text("name,kind,cells\nconv1,Conv2d,864\n")
    write_rows(tmp_path / "rows.csv", rows)
    figure = plot_accuracy(rows, tmp_path / "plots" / "a.png")
    path = write_report(tmp_path, [Section(rows, [figure])])
    return path.read_text()


def test_nothing_is_fetched(page):
    links = [link for link in Page(page).links if not link.startswith("#")]
    assert len(links) == 3 and links[0].startswith("data:image/svg+xml;base64,")
    assert all(link.startswith("data:text/csv;charset=utf-8;base64,") for link in links[1:])
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    assert Page(page).open == []


def test_it_shows_what_was_measured(page):
    cells = {text.strip(): shade for shade, text in Page(page).cells}
    assert {"base", "finetuned", "base_uncorrected", "10 years", "conv1"} <= cells.keys()
    shades = {shade for text, shade in cells.items() if text.startswith(("10.", "91.", "88."))}
    assert shades >= {"good", "near", "far"}


def test_what_comes_from_files_is_escaped(page):
    assert "&lt;resnet20&gt;" in page and "<resnet20>" not in page


def test_it_says_in_words_what_matters(page):
    words = re.findall(r"<li>(.*?)</li>", page)
    assert any(line.startswith("base: 88.") and "0 of 10 chips lose at most 1 point" in line for line in words)
    assert any(line.startswith("finetuned: 9") and "all the time" in line for line in words)


def test_other_metrics_are_folded(tmp_path, make_rows):
    sections = [Section(make_rows(metric=metric), []) for metric in ("top1", "top5")]
    text = write_report(tmp_path, sections).read_text()
    assert text.count("<details><summary>Show</summary>") == 1
    assert text.index("<details><summary>Show") > text.index("top-1 accuracy (%)")
    assert Page(text).open == []


def test_figures_follow_the_readers_theme(page):
    (link,) = [link for link in Page(page).links if link.startswith("data:image")]
    svg = b64decode(link.partition(",")[2]).decode()
    xml.dom.minidom.parseString(svg)
    assert "prefers-color-scheme: dark" in svg and "stroke: var(--ink)" in svg and "#000000" not in svg


def test_files_beside_the_page_have_plain_colours(tmp_path, rows):
    svg = plot_accuracy(rows, tmp_path / "a.png").with_suffix(".svg").read_text()
    assert "var(" not in svg and "stroke: #000000" in svg  # what no other program reads


def test_a_summary_comes_first_then_figures_then_tables(page):
    order = [page.index(f'<section id="{name}">') for name in ("summary", "figures", "tables", "data", "source")]
    assert order == sorted(order)
    short = page[order[0] : order[1]]
    assert "After 10 years, the finetuned network keeps" in short and "The pretrained network keeps" in short


def test_life_yield_and_gain_stand_before_the_ages(page):
    head = re.search(r"<thead>.*?</thead>", page, re.DOTALL)[0]
    heads = re.findall(r"<th[^>]*>(.*?)</th>", head)
    assert heads == ["network", "10 years", "of base digital", "life to −1 point", "yield at 10 years",
                     "gain over base at 10 years"]  # fmt: skip


def test_tables_can_be_taken_along_whole(page, tmp_path):
    found = re.findall(
        r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]*)">Download</a><button', page
    )
    assert {name: b64decode(data) for name, data in found} == {
        name: (tmp_path / name).read_bytes() for name in ("rows.csv", "conversion.csv")
    }


def test_a_large_table_is_named_but_not_in_the_page(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("hwaware.report.html._MOST_BYTES", 100)
    write_rows(tmp_path / "rows.csv", rows)
    text = write_report(tmp_path, [Section(rows, [])]).read_text()
    assert "rows.csv" in text and "in the folder of the run" in text and "base64" not in text


def test_a_loss_of_ones_own(tmp_path, rows):
    section = Section(rows, [])
    texts = [write_report(tmp_path, [section], criteria=Criteria(points)).read_text() for points in (1.0, 2.5)]
    for text, loss in zip(texts, ("1 point", "2.5 points"), strict=True):
        assert f"life to −{loss}" in text and f"lose at most {loss} at the last age" in text.replace("\n", " ")
    good = [text.count('class="good"') for text in texts]
    assert good[1] > good[0]


def test_the_chip_beside_the_mean_is_a_percentile_only_of_enough_chips(tmp_path, make_rows):
    few, many = (
        write_report(tmp_path, [Section(make_rows(n_chips=n), [])], criteria=Criteria(1.0, 5.0, 99.0)).read_text()
        for n in (2, 20)
    )
    assert "below it the worst chip" in few and "percentile" not in few
    assert "below it the 5th-percentile chip" in many
    cells = [text.strip() for _, text in Page(many).cells]
    assert {"yield at 10 years, 99 % asked", "life of 99 % of chips to −1 point", "0 % (missed)"} <= set(cells)
