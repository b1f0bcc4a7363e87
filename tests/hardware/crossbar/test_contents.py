"""What arrays hold, against where weights lie."""

import pytest
import torch

from hwaware.hardware.crossbar.contents import contents, counts
from hwaware.hardware.crossbar.places import places
from hwaware.hardware.crossbar.tiling import tiling

#: Rows and columns of an array, the weight's shape, groups, cells of a weight, of them in parallel, reference columns.
CASES = {
    "linear": (16, 16, (20, 50), 1, 2, 1, 0),
    "taps cut": (6, 12, (8, 3, 4, 4), 1, 2, 1, 0),
    "parallel, against a reference": (20, 15, (9, 6, 3, 3), 1, 4, 4, 4),
    "few groups": (20, 7, (8, 6, 3, 3), 2, 2, 1, 0),
    "depthwise": (30, 9, (10, 1, 3, 3), 10, 2, 1, 1),
    "one array": (512, 512, (10, 1, 3, 3), 10, 8, 2, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_what_lies_where(case):
    *size, weight, groups, columns, parallel, reference = CASES[case]
    cut = tiling(*size, weight, groups, columns, reference)
    held, found = contents(cut, parallel), places(cut)
    assert torch.tensor(counts(cut)).prod() == cut.n_arrays == len(held.rows) == len(held.columns)
    outputs, channels = weight[:2]
    taps = torch.Size(weight[2:]).numel()
    group, output, row = torch.meshgrid(*map(torch.arange, (groups, cut.outputs, channels * taps)), indexing="ij")
    channel, tap = held.rows.long()[found.array, found.row].unbind(-1)
    assert torch.equal(channel, group * channels + row // taps) and torch.equal(tap, row % taps)
    for index in range(columns):
        of, cell, copy = held.columns.long()[found.array, found.column + index].unbind(-1)
        assert torch.equal(of, group * cut.outputs + output)
        assert (cell == index // parallel).all() and (copy == index % parallel).all()
    of_reference = (held.columns[..., 0] < 0) & (held.columns[..., 1] >= 0)
    of_array = [[-1, columns // parallel, k] for k in range(reference)]
    assert held.columns[of_reference].tolist() == of_array * cut.n_arrays
    assert (held.columns[..., 0] >= 0).sum() == outputs * columns * len(cut.parts)


def test_columns_of_one_output_run_on():
    cut = tiling(9, 4, (3, 2, 3, 3), 1, 6, 3)
    held = contents(cut, 3)
    assert counts(cut) == (1, 2, 3, 3) and not cut.fits
    columns = held.columns.view(2, 3, 3 * 4, 3)
    for side, found in enumerate(columns[0].tolist()):
        there = [one for one in found if one != [-1, -1, -1]]
        weights = [[side, cell, copy] for cell in range(2) for copy in range(3)]
        assert there == [[-1, 2, 0], [-1, 2, 1], [-1, 2, 2], *weights]
    assert torch.equal(columns[0], columns[1])
