"""Which states do least harm."""

import pytest

from hwaware.hardware import Codes, load_device, load_hardware
from hwaware.hardware.encoding.favourability import states_by_error_current


def test_the_published_ranking():
    """00, 01, 11, 10 by error current; by the variation as a share, 11 would be as good as 01."""
    hardware = load_hardware("diware2023")
    ranked = states_by_error_current(hardware.device, hardware.encoding.format)
    assert [one.state for one in ranked] == [0, 1, 3, 2]
    assert [one.error_us for one in ranked] == pytest.approx([0.4, 1.0, 1.8, 2.8], rel=1e-6)
    assert [one.conductance_us for one in ranked] == pytest.approx([10, 50 / 3, 30, 70 / 3])


def test_ranking_of_a_device_that_drifts():
    """The programming error grows with the state; a cell at g_min, which is clamped there, cannot fall later."""
    device, codes = load_device("reram_cmo"), Codes(8, 2)
    young, old = states_by_error_current(device, codes), states_by_error_current(device, codes, 315_360_000.0)
    assert [one.state for one in young] == [0, 1, 2, 3] and old[0].state == 0
    assert old[1].error_us > 2 > 1 > young[3].error_us
