"""Variation by the state, and the preset of Diware et al."""

import pytest
import torch

from hwaware.errors import UserError
from hwaware.evaluation.evaluate import ages_to_evaluate
from hwaware.hardware import load_device, load_hardware

YEAR_S = 31536000.0


def test_known_spreads_at_the_states_and_between_them():
    device = load_device("diware2023")
    g = torch.tensor([10.0, 50 / 3, 70 / 3, 30.0, 20.0]).double()
    expected = torch.tensor([0.4, 1.0, 2.8, 1.8, 0.09 * 20]).double()
    torch.testing.assert_close(device.programming_std_us(g), expected)
    worse = load_device("diware2023", severity=2.0)
    torch.testing.assert_close(worse.programming_std_us(g), 2.0 * expected)
    mean, std = worse.cell_moments(g, YEAR_S)
    torch.testing.assert_close(std, 2.0 * expected, rtol=1e-4, atol=0)  # 0 µS is four standard deviations away
    torch.testing.assert_close(mean, g, rtol=1e-4, atol=0)


def test_what_is_written_stays():
    device = load_device("diware2023")
    assert ages_to_evaluate([device], [0, 1, YEAR_S]) == (0, YEAR_S)
    assert device.cell_moments(torch.tensor([20.0]), 0.0) == device.cell_moments(torch.tensor([20.0]), YEAR_S)


def test_other_mappings_have_it_too():
    plain = {"scale": "tensor", "bits": None, "slice_bits": None, "fraction_bits": None}
    hardware = load_hardware("diware2023", mapping="offset", **plain)
    _, std = hardware.encoding.moments(hardware.device, torch.tensor([-1.0, 0.0, 1.0]).double(), 0.0)
    torch.testing.assert_close(std, torch.tensor([0.04, 0.18, 0.18]).double())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"state_std": [0.1]}, "must be two or more values"),
        ({"state_std": [0.1, -0.1]}, "must be two or more values of 0 or more"),
        ({"severity": -1}, "severity=-1.0 .* must be 0 or more"),
    ],
)
def test_variation_that_cannot_be(settings, reason):
    with pytest.raises(UserError, match=reason):
        load_device("diware2023", **settings)
