"""Levels given of a cell: how many of a weight they make, and that they are another way of saying the same."""

from __future__ import annotations

import pytest

from hwaware.errors import UserError
from hwaware.hardware import hardware_from_plain, load_hardware
from hwaware.hardware.encoding import Encoding, Levels, number_format
from hwaware.hardware.encoding.mapping import MAPPINGS, cell_levels
from hwaware.hardware.options import EncodingOptions


@pytest.mark.parametrize(
    ("mapping", "states", "levels"),
    [("differential", 8, 15), ("differential", 2, 3), ("offset", 9, 9), ("offset_reference", 15, 15),
     ("differential_symmetric", 15, 15)],
)  # fmt: skip
def test_levels_of_a_cell_make_levels_of_a_weight(mapping, states, levels):
    found = load_hardware("reram_cmo", mapping=mapping, cell_levels=states)
    assert found == load_hardware("reram_cmo", mapping=mapping, levels=levels)
    assert found.encoding.params()["levels"] == levels and "cell_levels" not in found.encoding.params()
    assert hardware_from_plain(found.plain()) == found
    assert cell_levels(MAPPINGS[mapping], levels) == states
    assert str(found.encoding) == f"{mapping}, {levels} levels ({states} of a cell)"


def test_other_layers_have_as_many_levels_of_a_cell():
    encoding = load_hardware("reram_cmo", cell_levels=9).encoding
    assert encoding.format == Levels(17) and EncodingOptions(mapping="offset").over(encoding).format == Levels(9)


def test_a_device_file_s_levels_of_a_weight_give_way():
    assert load_hardware("charan2020", cell_levels=4).encoding.format == Levels(7)
    assert load_hardware("charan2020").encoding.format == Levels(15)


@pytest.mark.parametrize(
    ("mapping", "words", "reason"),
    [
        ("offset", {"cell_levels": 8}, "such cells .* hold a weight of zero; give 7 or 9, or a pair with an idle cell"),
        ("differential", {"cell_levels": 1}, "cell_levels=1 must be a whole number of at least 2 .8 for 3 bits"),
        ("differential", {"cell_levels": 8, "levels": 15}, "exclude each other: levels of a weight, or of a cell"),
        ("differential", {"cell_level": 8}, "has no 'cell_level'. .*'cell_levels'"),
        ("bit_sliced", {"cell_levels": 4}, "is not for the mapping 'bit_sliced'"),
    ],
)
def test_what_can_t_be(mapping, words, reason):
    with pytest.raises(UserError, match=reason):
        Encoding(mapping=mapping, kappa=None, format=number_format(words))
