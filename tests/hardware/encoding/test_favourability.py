"""Which states do least harm."""

import pytest

from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.hardware.encoding.favourability import states_by_error_current


def test_the_published_ranking():
    """00, 01, 11, 10 by error current; by the variation as a share, 11 would be as good as 01."""
    ranked = states_by_error_current(load_hardware("diware2023"))
    assert [one.state for one in ranked] == [0, 1, 3, 2]
    assert [one.error_us for one in ranked] == pytest.approx([0.4, 1.0, 1.8, 2.8], rel=1e-6)
    assert [one.conductance_us for one in ranked] == pytest.approx([10, 50 / 3, 30, 70 / 3])


def test_ranking_of_a_device_that_drifts():
    """The programming error grows with the state; a cell at g_min, which is clamped there, cannot fall later."""
    device = load_hardware("reram_cmo", mapping="bit_sliced", kappa=None)
    young, old = states_by_error_current(device), states_by_error_current(device, 315_360_000.0)
    assert [one.state for one in young] == [0, 1, 2, 3] and old[0].state == 0
    assert old[1].error_us > 2 > 1 > young[3].error_us


def test_other_mappings_have_no_states():
    with pytest.raises(UserError, match="mapping 'differential' of device 'reram_cmo' has no states: use 'bit_sliced'"):
        states_by_error_current(load_hardware("reram_cmo"))
