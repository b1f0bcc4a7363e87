import itertools
import json
import random
import re

import matplotlib
import numpy as np
import pytest
from PIL import Image

from hwaware.errors import UserError
from hwaware.report.age_axis import age_positions
from hwaware.report.device_plots import plot_changes, plot_transform
from hwaware.report.drawing import shades
from hwaware.report.plots import plot_accuracy
from hwaware.report.sweep_plots import plot_input_range_sweep, plot_parameter_sweep, plot_range_sweep
from hwaware.results.setting import DeviceLabels

BLUE, ORANGE, PINK = (0, 114, 178), (213, 94, 0), (204, 121, 167)


def _pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def _where(pixels, colour):
    """Rows and columns of pixels of a colour, in [0, 1] of the figure."""
    found = np.argwhere(np.abs(pixels - colour).max(-1) < 6)
    return found / pixels.shape[:2]


def _texts(path):
    """What is written in a figure, as the SVG beside its PNG names it."""
    return re.findall(r"<!-- (.*?) -->", path.with_suffix(".svg").read_text(encoding="utf-8"))


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of accuracy against age, as matplotlib has them."""

    def axes(rows, **options):
        figures = []
        monkeypatch.setattr("hwaware.report.plots.save", lambda figure, top, heading, path: figures.append(figure))
        plot_accuracy(rows, tmp_path / "a.png", **options)
        figures[0].draw_without_rendering()
        return figures[0].axes

    return axes


def _age_labels(axis):
    return [label.get_text().replace("\n", " ") for label in axis.xaxis.get_ticklabels()]


def _unclipped(pixels):
    """Nothing reaches the edges of the image."""
    return all((edge == 255).all() for edge in (pixels[:3], pixels[-3:], pixels[:, :2], pixels[:, -2:]))


def _same(a, b):
    return a.shape == b.shape and (a == b).all()


def test_accuracy_shows_every_network_in_its_colour(tmp_path, rows):
    pixels = _pixels(plot_accuracy(rows, tmp_path / "plots" / "a.png"))
    assert min(pixels.shape[:2]) > 600
    for colour in (BLUE, ORANGE, PINK):
        assert len(_where(pixels, colour)) > 500
    # The uncorrected network, at chance, is drawn in the lower panel only; the legend below both is left out.
    curve = _where(pixels, PINK)
    assert curve[curve[:, 0] < 0.9][:, 0].min() > 0.6
    assert _unclipped(pixels)


def test_accuracy_that_is_higher_is_drawn_higher(tmp_path, make_rows):
    pixels = _pixels(
        plot_accuracy(make_rows(means={"base": (80.0,) * 7, "finetuned": (90.0,) * 7}), tmp_path / "a.png")
    )
    high, low = (_where(pixels, colour)[:, 0] for colour in (BLUE, ORANGE))
    assert np.median(high[high < 0.8]) < np.median(low[low < 0.8])


def test_a_network_keeps_its_colour_without_the_others(tmp_path, make_rows):
    pixels = _pixels(plot_accuracy(make_rows(means={"finetuned": (90.0,) * 7}), tmp_path / "a.png"))
    assert len(_where(pixels, BLUE)) > 500 and not len(_where(pixels, ORANGE))


def test_band_and_percentile_follow_the_spread(tmp_path, make_row):
    def pixels(spread):
        rows = [
            make_row(age_s=age, chip_seed=chip, value=90 + spread * (chip - 4.5))
            for age in (0.0, 3600.0, 1e6) for chip in range(10)
        ]  # fmt: skip
        rows += [make_row(age_s=age, value=value, network="finetuned") for age, value in ((0.0, 95.0), (1e6, 80.0))]
        return _pixels(plot_accuracy(rows, tmp_path / f"{spread}.png"))

    band = np.round(np.array(ORANGE) * 0.18 + 255 * 0.82)
    assert len(_where(pixels(1.0), band)) > 3 * len(_where(pixels(0.1), band))


def test_age_0_stands_left_of_a_gap_and_the_rest_on_a_logarithm():
    positions = age_positions([0.0, 1.0, 100.0, 1e8])
    assert positions[100.0] - positions[1.0] == pytest.approx((positions[1e8] - positions[100.0]) / 3)
    assert positions[0.0] < positions[1.0] - 0.5
    assert age_positions([0.0]).keys() == {0.0}


def test_a_thousand_ages_are_not_all_named(drawn, make_row):
    ages = [0.0, *np.geomspace(1, 315_360_000, 999).tolist()]
    texts = _age_labels(drawn([make_row(age_s=age) for age in ages])[-1])
    named = [text for text in texts if re.fullmatch(r"[\d.]+ (s|min|h|days?|weeks?|months?|years?)", text)]
    assert 5 <= len(named) <= 11 and {"0 s", "1 s", "10 years"} <= set(named)


def test_ages_are_labelled_in_words_that_do_not_run_into_one_another(drawn, make_row):
    ages = (0.0, 1.0, 60.0, 3600.0, 86_400.0, 604_800.0, 2_592_000.0, 31_536_000.0, 315_360_000.0)
    (axis,) = drawn([make_row(age_s=age) for age in ages])
    assert {"0 s", "1 s", "1 h", "1 day", "1 year", "10 years"} <= set(_age_labels(axis))
    boxes = [label.get_window_extent() for label in axis.xaxis.get_ticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert set(range(9)) <= {*axis.xaxis.get_minorticklocs(), *axis.xaxis.get_majorticklocs()}  # 1 s to 10⁸ s


def test_only_ages_that_were_evaluated_are_named(drawn, make_row):
    (axis,) = drawn([make_row(age_s=age) for age in (3600.0, 86_400.0, 315_360_000.0)])
    assert _age_labels(axis) == ["1 h", "1 day", "10 years"]


def test_no_band_leaves_what_percent_can_be(drawn, make_row):
    rows = [make_row(age_s=age, chip_seed=chip, value=value)
            for age in (0.0, 3600.0, 1e6) for chip, value in enumerate((100.0, 100.0, 91.0))]  # fmt: skip
    (band,) = drawn(rows)[0].collections
    assert band.get_paths()[0].vertices[:, 1].max() == 100.0


def test_two_ages_have_no_close_up(drawn, make_row):
    def panels(*ages):
        rows = [make_row(network=network, age_s=age, value=90 - drop * number)
                for network, drop in (("base", 40), ("finetuned", 1)) for number, age in enumerate(ages)]  # fmt: skip
        return len(drawn(rows))

    assert panels(0.0, 3600.0, 1e6) == 2 and panels(0.0, 1e6) == 1


def test_chance_is_drawn_where_networks_come_near_it(tmp_path, make_row):
    def texts(value):
        rows = [make_row(age_s=age, value=value) for age in (0.0, 3600.0)]
        return _texts(plot_accuracy(rows, tmp_path / "a.png", chance=10.0))

    assert "chance (10 %)" in texts(15.0) and "chance (10 %)" not in texts(85.0)


@pytest.mark.parametrize("settings", [{"font.size": 30.0, "axes.grid": False}])
def test_figures_look_the_same_whatever_matplotlib_is_told(tmp_path, rows, settings):
    import matplotlib

    plain = _pixels(plot_accuracy(rows, tmp_path / "a.png"))
    with matplotlib.rc_context(settings):
        assert _same(plain, _pixels(plot_accuracy(rows, tmp_path / "b.png")))
        assert matplotlib.rcParams["font.size"] == 30.0


def test_all_figures_are_as_wide(tmp_path, rows):
    paths = [plot_accuracy(rows, tmp_path / "a.png"), plot_transform(_device(), tmp_path / "b.png")]
    assert {_pixels(path).shape[1] for path in paths} == {960}


@pytest.mark.parametrize("ages", [(0.0,), (3600.0,), (0.0, 315_360_000.0)])
def test_few_ages_and_one_chip_can_be_drawn(tmp_path, make_row, ages):
    pixels = _pixels(plot_accuracy([make_row(age_s=age) for age in ages], tmp_path / "a.png"))
    assert len(_where(pixels, ORANGE)) > 50


def test_one_age_puts_networks_below_one_another(tmp_path, make_row):
    rows = [make_row(network=network, age_s=3600.0, chip_seed=chip, value=value + chip, method=method)
            for network, method, value in (("base", "none", 10.0), ("base", "rsa", 80.0), ("finetuned", "none", 88.0))
            for chip in range(3)]  # fmt: skip
    path = plot_accuracy(rows, tmp_path / "a.png")
    texts = _texts(path)
    for text in ("base", "base + rsa", "finetuned", "11.00 ± 1.00", "81.00 ± 1.00", "89.00 ± 1.00"):
        assert text in texts
    assert "Top-1 accuracy at 1 h (%)" in texts and "worst chip" in texts and "5th-percentile chip" not in texts
    assert _unclipped(_pixels(path))


def test_one_age_shows_the_spread(tmp_path, make_row):
    def ink(spread):
        rows = [make_row(chip_seed=chip, value=60 + spread * (chip - 1)) for chip in range(3)]
        rows += [make_row(network="finetuned", chip_seed=chip, value=value) for chip, value in enumerate((30, 60, 90))]
        return len(_where(_pixels(plot_accuracy(rows, tmp_path / f"{spread}.png")), ORANGE))

    assert ink(20.0) > ink(1.0) + 200


_newer = pytest.mark.skipif(matplotlib.__version_info__ < (3, 11), reason="long legends overflow")


@pytest.mark.parametrize("length", [12, 40, pytest.param(200, marks=_newer)])
def test_a_legend_of_long_names_fits_into_the_figure(tmp_path, make_row, length):
    rows = [make_row(network=f"{letter * length}", age_s=age) for letter in "abcdef" for age in (0.0, 3600.0)]
    path = plot_accuracy(rows, tmp_path / "a.png")
    assert sum(text.startswith("a" * 12) for text in _texts(path)) >= 1
    assert _unclipped(_pixels(path))


def test_accuracy_of_two_settings_is_refused(tmp_path, make_row):
    with pytest.raises(UserError, match="one device"):
        plot_accuracy([make_row(), make_row(mapping="offset")], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_heading_names_a_varying_parameter(tmp_path, rows):
    plain, named = (plot_accuracy(rows, tmp_path / f"{i}.png", v) for i, v in enumerate(((), ("drift_mean_slope_us",))))
    assert not _same(_pixels(plain), _pixels(named))


def _device(**params):
    window = {"g_min_us": 9.0, "g_max_us": 88.2, "kappa": 2.0, "range_fraction": 1.0}
    return DeviceLabels("reram_cmo", json.dumps(window | params), "differential")


def _changed(target, drift_us, std_us):
    """Cells at three ages, off by so much per decade of seconds."""
    draw = np.random.default_rng(0)
    return {age: target + drift_us * decades + draw.normal(0, std_us, target.size)
            for age, decades in ((0.0, 0.0), (3600.0, 3.6), (315_360_000.0, 8.5))}  # fmt: skip


def test_cells_that_drift_are_drawn_below_those_that_do_not(tmp_path):
    target = np.repeat(np.linspace(10, 88, 8), 100)
    oldest = tuple(int(255 * part) for part in shades(3)[-1][:3])

    def panel_and_height(drift_us):
        path = plot_changes(target, _changed(target, drift_us, 0.2), _device(), tmp_path / f"{drift_us}.png")
        rows = _where(_pixels(path), oldest)[:, 0]
        return np.median(rows[rows < 0.55])  # of the panel of mean shifts

    still, drifting = panel_and_height(0.0), panel_and_height(-1.0)
    assert drifting > still + 0.03


def test_changes_name_ages_and_units_and_mark_what_is_extrapolated(tmp_path):
    target = np.repeat(np.linspace(10, 88, 8), 100)
    of = _device(measured_s=(1.0, 604_800.0))
    texts = _texts(plot_changes(target, _changed(target, -1.0, 0.2), of, tmp_path / "a.png"))
    assert {"0 s", "1 h", "10 years (extrapolated)"} <= set(texts)
    assert {"cells (%)", "mean shift (µS)", "std over cells (µS)", "target conductance (µS)"} <= set(texts)


def test_no_conductances_is_an_error(tmp_path):
    for target, aged in (([], {0.0: []}), ([10.0], {})):
        with pytest.raises(UserError, match="no conductances"):
            plot_changes(target, aged, _device(), tmp_path / "a.png")


def test_transform_bends_with_kappa_and_is_the_identity_without(tmp_path):
    def pixels(kappa):
        return _pixels(plot_transform(_device(kappa=kappa), tmp_path / f"{kappa}.png"))

    assert not len(_where(pixels(None), BLUE))
    bent, flat = (_where(pixels(kappa), BLUE) for kappa in (3.0, 0.01))
    # At u = 0.5, right of the middle, the curve of a strong sinh lies lower, that is nearer to effective weight 0.
    at_half = [np.median(curve[np.abs(curve[:, 1] - 0.76) < 0.005][:, 0]) for curve in (bent, flat)]
    assert at_half[0] > at_half[1] + 0.05


def _sweep(make_row, age_s=0.0):
    draw = random.Random(0)
    return [
        make_row(
            {"kappa": kappa, "range_fraction": r}, network=network, chip_seed=chip, age_s=age_s,
            value=(90 - (network != "base") * 60 * r) + draw.gauss(0, 0.3),
        )
        for kappa in (None, 1.0, 2.0) for r in (0.25, 0.5, 1.0) for network in ("base", "base_uncorrected")
        for chip in range(3) if kappa or network == "base"
    ]  # fmt: skip


def test_range_sweep_draws_one_age_of_the_untrained_networks(tmp_path, make_row):
    rows = _sweep(make_row)
    pixels = _pixels(plot_range_sweep(rows, tmp_path / "a.png", 0.0))
    for colour in (BLUE, ORANGE, (0, 158, 115)):
        assert len(_where(pixels, colour)) > 200
    others = [*_sweep(make_row, 3600.0), make_row(network="finetuned", value=50.0)]
    assert _same(pixels, _pixels(plot_range_sweep(rows + others, tmp_path / "b.png", 0.0)))


def test_range_sweep_refuses_what_it_cannot_draw(tmp_path, make_row):
    rows = _sweep(make_row)
    with pytest.raises(UserError, match="age 1 h: nothing to sweep"):
        plot_range_sweep(rows, tmp_path / "a.png", 3600.0)
    for other in (make_row(mapping="offset"), make_row({"clamp": "zero"})):
        with pytest.raises(UserError, match="kappa and range_fraction only"):
            plot_range_sweep([*rows, other], tmp_path / "a.png", 0.0)


def test_input_range_sweep_has_a_line_for_each_age(tmp_path, make_row):
    def rows(optimum, **changes):
        return [
            make_row(
                params={"kappa": None, "converters": {"adc_bits": 8, "input_kappa": 2.0, "input_range": r}},
                age_s=age_s, chip_seed=chip, value=91 - 2 * abs(r - optimum) + 0.1 * chip - drop, **changes,
            )
            for r in (0.125, 0.25, 0.5, 0.75, 1.0) for age_s, drop in ((0.0, 0), (3e8, 3)) for chip in range(3)
        ]  # fmt: skip

    pixels = _pixels(plot_input_range_sweep(rows(0.25), tmp_path / "a.png"))
    assert len(_where(pixels, BLUE)) > 300 and len(_where(pixels, ORANGE)) > 300
    young = _where(pixels, BLUE)
    young = young[young[:, 0] < 0.75]  # without the legend
    assert young[young[:, 0].argmin(), 1] < 0.45  # the best, at a quarter of the range, is on the left
    assert not _same(pixels, _pixels(plot_input_range_sweep(rows(0.75), tmp_path / "b.png")))
    with pytest.raises(UserError, match="may differ in input_range and age only"):
        plot_input_range_sweep(rows(0.25) + rows(0.25, network="finetuned"), tmp_path / "c.png")
    with pytest.raises(UserError, match="needs rows of networks with converters"):
        plot_input_range_sweep([make_row()], tmp_path / "c.png")


def test_sweeps_star_an_age_that_was_not_measured(tmp_path, make_row):
    def rows(name, age_s=86_400.0, **more):
        week = {"measured_s": [1.0, 3600.0]}
        return [make_row(week | {name: x} | more, age_s=age_s, value=90.0 - x) for x in (0.25, 0.5)]

    of_r = _texts(plot_range_sweep(rows("range_fraction"), tmp_path / "a.png", 86_400.0))
    of_severity = _texts(plot_parameter_sweep(rows("severity"), "severity", tmp_path / "b.png"))
    for texts in (of_r, of_severity):
        assert any(text.endswith("age 1 day *") for text in texts)
    of_inputs = [make_row({"measured_s": [1.0, 3600.0], "converters": {"input_range": r}}, age_s=age_s)
                 for r in (0.25, 0.5) for age_s in (60.0, 86_400.0)]  # fmt: skip
    assert {"1 min", "1 day *"} <= set(_texts(plot_input_range_sweep(of_inputs, tmp_path / "c.png")))
    young = _texts(plot_parameter_sweep(rows("severity", age_s=60.0), "severity", tmp_path / "d.png"))
    assert not any("*" in text for text in young)


def test_parameter_sweep_has_a_line_for_each_network(tmp_path, make_row):
    def rows(network, **changes):
        values = ((0.1, 90.0), (0.5, 60.0), (1.0, 20.0))
        return [make_row({"severity": x}, network=network, value=y, **changes) for x, y in values]

    one = _pixels(plot_parameter_sweep(rows("base"), "severity", tmp_path / "a.png"))
    two = _pixels(plot_parameter_sweep(rows("base") + rows("biased"), "severity", tmp_path / "b.png"))
    backwards = _pixels(plot_parameter_sweep(rows("base")[::-1], "severity", tmp_path / "c.png"))
    assert not _same(one, two) and _same(one, backwards)
    for odd, reason in (
        (rows("base", age_s=3600.0), "may differ in severity, network and repair only"),
        ([make_row()], "'severity' is not a number in the device parameters of every row"),
    ):
        with pytest.raises(UserError, match=reason):
            plot_parameter_sweep(rows("base") + odd, "severity", tmp_path / "d.png")
