import pytest

from hwaware.evaluation.evaluate import DEFAULT_AGES_S
from hwaware.hardware.encoding.mapping import MAPPINGS, cell_levels
from hwaware.report.labels import (
    age_label,
    constants,
    device_slug,
    device_slugs,
    heading,
    line_labels,
    method_label,
    metric_label,
    of_a_cell,
    slug,
    varying_params,
)
from hwaware.report.tables import grids, rich_table
from hwaware.results.setting import by_setting


def test_the_default_ages():
    assert [age_label(age) for age in DEFAULT_AGES_S] == [
        "0 s", "1 h", "1 day", "1 week", "1 month", "1 year", "10 years",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("age_s", "label"),
    [
        (1, "1 s"), (0.5, "0.5 s"), (59, "59 s"), (60, "1 min"), (90, "90 s"), (7200, "2 h"), (11520, "3.2 h"),
        (172800, "2 days"), (1209600, "2 weeks"), (5184000, "2 months"), (31536000.0, "1 year"),
        (3153600000, "100 years"),
    ],
)  # fmt: skip
def test_ages_as_people_say_them(age_s, label):
    assert age_label(age_s) == label


def test_metrics_in_words():
    words = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "f1": "F1", "f1_has_ans": "F1 of answerable questions"}
    assert {name: metric_label(name) for name in words} == words and metric_label("mine") == "mine"


def test_slugs_tell_apart_what_looks_alike_in_short(make_row):
    """Else two devices of one name overwrite each other's figures, and are logged as their mean."""
    placed = [{"layers": [{"match": "a"}]}, {"layers": [{"match": "b"}]}, {"kappa": 2.000001}, {"kappa": 2.0000012}]
    rows = [make_row(params=one, age_s=age_s, metric=m) for one in placed for age_s in (0, 1) for m in ("top1", "top5")]
    settings = by_setting(rows).values()
    assert len({slug(same, rows) for same in settings}) == len(settings) == 8
    slugs = device_slugs(rows)
    assert len(slugs) == 4 and slugs == [device_slug(same[:1], rows) for same in list(settings)[::2]]


def test_only_what_differs_within_a_device_varies(make_row):
    rows = [make_row(params={"kappa": 1.0}), make_row(params={"kappa": 2.0}), make_row(device="other", params={"x": 1})]
    assert varying_params(rows) == ("kappa",)


def test_heading_names_levels_where_there_are_any(make_row):
    _, conditions = heading([make_row(params={"g_min_us": 0.0, "g_max_us": 1.0, "levels": 15})])
    assert "15 levels" in conditions


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_levels_of_a_cell_are_said_beside_those_of_a_weight(make_row, mapping):
    states = cell_levels(MAPPINGS[mapping], 15)
    rows = [make_row(mapping=mapping, params={"levels": 15}, age_s=age_s) for age_s in (0, 60)]
    said = f"15 levels of a weight are {states} of a cell" + " (3 bits)" * (states == 8)
    assert of_a_cell(rows) == said
    assert said in rich_table(grids(rows)[0]).caption.plain
    assert of_a_cell([make_row()]) == "" == of_a_cell([make_row(mapping="mine.PAIR", params={"levels": 15})])


def test_levels_of_cells_of_several_mappings_are_said_of_each(make_row):
    rows = [make_row(mapping=mapping, params={"levels": 15}) for mapping in ("offset", "differential")]
    assert of_a_cell(rows) == (
        "offset: 15 levels of a weight are 15 of a cell; differential: 15 levels of a weight are 8 of a cell (3 bits)"
    )


def test_heading_names_slices_and_a_fixed_scale(make_row):
    params = {"scale": "tensor", "bits": 8, "slice_bits": 2}
    _, conditions = heading([make_row(params=params)])
    assert "8 bits in 2-bit slices · scale per tensor" in conditions
    fixed = make_row(params=params | {"scale": "fixed", "fraction_bits": 6})
    _, conditions = heading([fixed])
    assert "8 bits in 2-bit slices · fixed scale, 6 fractional bits" in conditions
    assert "bits" not in constants(fixed)


def test_heading_of_a_sweep_explains_its_stars(make_row):
    params = {"measured_s": [1.0, 60.0], "severity": 0.5}
    for age_s, starred in ((60.0, False), (3600.0, True)):
        _, conditions = heading([make_row(params, age_s=age_s)], swept=["severity"])
        assert ("* extrapolated" in conditions) == starred


def test_heading_says_what_a_reader_must_know(rows):
    title, conditions = heading(rows, varying=["drift_mean_slope_us", "kappa"])
    assert title == "cifar_resnet20 on cifar10 · reram_cmo, differential, κ = 2, drift_mean_slope_us = -0.089"
    assert conditions == (
        "9–88.2 µS · scale per tensor · clamp window · r = 1 · top-1 accuracy (%) · 10 chips · 10,000 samples"
    )


def test_heading_names_linear_and_stuck_cells_and_uneven_chips(make_row):
    params = {"kappa": None, "stuck_on": 0.0175, "stuck_off": 0.0904}
    _, conditions = heading([make_row(params), make_row(params, chip_seed=1), make_row(params, age_s=1.0)])
    assert all(part in conditions for part in ("linear cells", "stuck on/off 0.0175/0.0904", "1–2 chips"))


def test_slugs_tell_settings_apart_and_are_file_names(make_row):
    rows = [
        make_row({"kappa": kappa}, mapping=mapping, metric=metric, model=model)
        for kappa in (2.0, None) for mapping in ("offset", "differential") for metric in ("top1", "top5")
        for model in ("a/b", "c")
    ]  # fmt: skip
    slugs = [slug(same, rows) for same in by_setting(rows).values()]
    assert len(set(slugs)) == len(rows) == 16
    assert not any(set(one) & set("/ :'\"") for one in slugs)
    assert slug(rows[:1], rows[:1]) == "reram_cmo_offset_top1"


def test_lines_are_named_by_what_tells_them_apart(make_row):
    names = list(line_labels([make_row(), make_row(network="finetuned")]).values())
    assert names == ["base", "finetuned"]
    rows = [
        make_row(method="vera", method_params='{"rank": 1}'), make_row(method="vera", method_params='{"rank": 8}'),
        make_row(), make_row(recipe="other"),
    ]  # fmt: skip
    assert list(line_labels(rows).values()) == [
        "base + vera rank=1", "base + vera rank=8", "base (cifar10_resnet20)", "base (other)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("vera_plus", '{"constant": true, "rank": 1}', "vera_plus_constant"),
        ("vera_plus", '{"constant": false, "rank": 1}', "vera_plus"),
        ("rsa", '{"mask": "error"}', "rsa_error"),
        ("rsa", '{"mask": "importance"}', "rsa"),
        ("none", "{}", "none"),
    ],
)
def test_what_is_ours_beside_a_published_method_is_in_the_name(method, params, name):
    assert method_label(method, params) == name


def test_a_name_says_a_setting_once(make_row):
    params = ('{"constant": true, "rank": 1}', '{"constant": true, "rank": 8}', '{"constant": false, "rank": 1}')
    rows = [make_row(method="vera_plus", method_params=one) for one in params]
    assert list(line_labels(rows).values()) == [
        "base + vera_plus_constant rank=1", "base + vera_plus_constant rank=8", "base + vera_plus",
    ]  # fmt: skip
