"""How weights are cut into arrays."""

import pytest

from hwaware.errors import UserError
from hwaware.hardware import Converters, Crossbar, Encoding, load_hardware
from hwaware.hardware.crossbar.tiling import tiling


def _cut(weight, groups=1, rows=256, columns=512, weight_columns=2, reference_columns=0):
    return tiling(rows, columns, weight, groups, weight_columns, reference_columns)


def test_rows_are_cut_at_whole_channels_as_evenly_as_can_be():
    cut = _cut((64, 64, 3, 3))  # 28 channels of 9 taps fit into 256 rows
    assert [one.channels for one in cut.parts] == [(0, 22), (22, 44), (44, 64)]
    assert {one.taps for one in cut.parts} == {(0, 9)} and sum(one.n_rows for one in cut.parts) == 576
    assert cut.n_arrays == 3 and cut.n_cells == 576 * 128
    assert cut.utilisation == pytest.approx(576 * 128 / (3 * 256 * 512))


def test_taps_are_cut_where_they_do_not_fit():
    cut = _cut((192, 3, 16, 16), rows=128)
    assert len(cut.parts) == 6 and cut.parts[1].channels == (0, 1) and cut.parts[1].taps == (128, 256)
    assert sum(one.n_rows for one in cut.parts) == 768


def test_outputs_lie_side_by_side_with_their_copies_and_references():
    assert _cut((600, 100)).sides == 3  # 256 pairs to 512 columns
    assert _cut((600, 100), weight_columns=8).sides == 10  # four copies of each pair
    referenced = _cut((600, 100), weight_columns=1, reference_columns=1)
    assert referenced.sides == 2 and referenced.outputs_per_array == 511
    assert referenced.n_cells == 100 * (600 + 2)


def test_small_groups_share_an_array():
    depthwise = _cut((96, 1, 3, 3), groups=96)
    assert depthwise.groups_per_array == 28 and depthwise.n_arrays == 4
    assert depthwise.n_cells == 96 * 9 * 2
    assert _cut((96, 1, 3, 3), groups=96, columns=20).groups_per_array == 10
    cut = _cut((96, 48, 3, 3), groups=2)  # 432 rows each
    assert cut.groups_per_array == 1 and cut.n_arrays == 4


def test_a_weight_that_is_wider_than_an_array():
    wide = _cut((4, 10), columns=6, weight_columns=10)
    assert not wide.fits and wide.n_arrays == 8 and wide.n_cells == 400
    many = Encoding(parallel=100)
    load_hardware("reram_cmo", parallel=100, columns=128)  # without converters it is only counted
    with pytest.raises(UserError, match=r"columns=128 are fewer than the 200 cells of a weight \(parallel=100\)"):
        load_hardware("reram_cmo", parallel=100, columns=128, converters=Converters(adc_bits=8))
    assert Crossbar(columns=128).tiling(many, (4, 10), 1).n_arrays == 8
