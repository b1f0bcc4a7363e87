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
    figure = plot_accuracy(rows, tmp_path / "plots" / "a.png")
    path = write_report(tmp_path, [Section(rows, [figure])])
    return path.read_text()


def test_nothing_is_fetched(page):
    links = Page(page).links
    assert len(links) == 1 and links[0].startswith("data:image/svg+xml;base64,")
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
    svg = b64decode(Page(page).links[0].partition(",")[2]).decode()
    xml.dom.minidom.parseString(svg)
    assert "prefers-color-scheme: dark" in svg and "stroke: var(--ink)" in svg and "#000000" not in svg


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
