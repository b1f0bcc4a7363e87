"""Room at the window's ends that no target uses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwaware.chip import Chip
from hwaware.errors import UserError
from hwaware.hardware import Encoding, hardware_from_plain, load_hardware
from hwaware.hardware.encoding.mapping import MAPPINGS
from hwaware.nn import convert

TEN_YEARS_S = 315_360_000.0


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_targets_keep_to_what_the_headroom_leaves_and_read_back(mapping):
    hardware = load_hardware("reram_cmo", mapping=mapping, headroom_us=(5, 2.5))
    v = torch.linspace(-1, 1, 101, dtype=torch.float64)
    cells = hardware.encode(v)
    low, high = 9 + 5, 88.2 - 2.5
    assert min(g.min() for g in cells) == pytest.approx(low)
    assert max(g.max() for g in cells) == pytest.approx(high)
    against = (torch.full_like(v, (low + high) / 2),) if hardware.encoding.layout.reference else ()
    torch.testing.assert_close(hardware.decode((*cells, *against)), v)


def test_a_pairs_common_drift_cancels_where_the_windows_end_cut_it_off():
    means = {}
    for headroom in ((0, 0), (5, 2.5)):
        hardware = load_hardware("reram_cmo", mapping="differential", headroom_us=headroom)
        u = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
        means[headroom] = hardware.encoding.moments(hardware.device, u, TEN_YEARS_S)[0].abs().max().item()
    assert means[0, 0] > 0.01 > 0.002 > means[5, 2.5]  # what is left is the curve's: it bends a spread upwards


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("headroom", [(0.0, 0.0), (5.0, 2.5)])
def test_chips_have_the_moments(mapping, headroom):
    """Of 40,000 cells for each of a few weights, of linear cells, whose moments need no slope."""
    hardware = load_hardware("reram_cmo", mapping=mapping, headroom_us=headroom, kappa="linear", columns=1)
    u = torch.tensor([-0.8, -0.2, 0.0, 0.5])
    model = nn.Sequential(nn.Linear(40_000, 4, bias=False))
    model[0].weight.data = u[:, None].repeat(1, 40_000)
    model[0].weight.data[:, 0] = 1.0  # sets the scale
    convert(model, hardware, corrected=False)
    errors = (Chip.program(model, 3).weight_at("0", TEN_YEARS_S) - model[0].effective_weight())[:, 1:].double()
    mean, std = hardware.encoding.moments(hardware.device, u.double(), TEN_YEARS_S)
    torch.testing.assert_close(errors.mean(1), mean, atol=0.001, rtol=0)
    torch.testing.assert_close(errors.std(1), std, rtol=0.03, atol=0)


def test_what_is_usual_is_not_in_results_and_files_without_it_are_read():
    plain = load_hardware("reram_cmo").plain()
    assert not {"headroom_us", "parallel", "combine", "mean_target_ages_s"} & set(load_hardware("reram_cmo").params())
    hardware = load_hardware("reram_cmo", headroom_us=(5, 2.5), parallel=4)
    assert hardware.params()["headroom_us"] == [5, 2.5] and hardware.params()["parallel"] == 4
    assert hardware_from_plain(hardware.plain()) == hardware
    for key in ("headroom_us", "parallel", "combine", "mean_target_ages_s"):
        del plain["encoding"][key]  # as older files have it
    assert hardware_from_plain(plain) == load_hardware("reram_cmo")


def test_bad_headroom():
    with pytest.raises(UserError, match=r"takes 80 µS of the window of device 'reram_cmo', which is 79.2 µS wide"):
        load_hardware("reram_cmo", headroom_us=(40, 40))
    for wrong in ((-1, 0), (1,), (1, 2, 3), (float("inf"), 0)):
        with pytest.raises(UserError, match="must be two numbers of 0 or more"):
            Encoding(headroom_us=wrong)
