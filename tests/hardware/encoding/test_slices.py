"""Weights as digits."""

import pytest
import torch

from hwaware.errors import UserError
from hwaware.hardware import Codes


def test_the_published_code():
    """8 bits, shifted by 2^7, in four 2-bit slices: the most significant digit cuts the range into four parts."""
    slices = Codes(8, 2)
    assert (slices.n_slices, slices.n_states, slices.steps()) == (4, 4, 128)
    q = torch.tensor([-128, -65, -64, -1, 0, 63, 64, 127])
    digits = slices.digits(q + 128)
    assert digits[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [digit[3].item() for digit in digits] == [1, 3, 3, 3]  # 127 = 1·64 + 3·16 + 3·4 + 3
    assert [digit[4].item() for digit in digits] == [2, 0, 0, 0]


@pytest.mark.parametrize(("bits", "slice_bits"), [(8, 2), (8, 1), (8, 8), (6, 3), (2, 2)])
def test_digits_join_again(bits, slice_bits):
    slices = Codes(bits, slice_bits)
    codes = torch.arange(2**bits)
    digits = slices.digits(codes)
    assert len(digits) == slices.n_slices and all(0 <= d.min() and d.max() < slices.n_states for d in digits)
    joined = sum(digit * slices.n_states**k for k, digit in enumerate(reversed(digits)))
    assert joined.equal(codes)
    assert slices.codes(slices.positions(codes)).equal(codes)


def test_what_is_out_of_range_is_clipped_and_the_rest_rounded():
    slices = Codes(8, 2)
    v = torch.tensor([-3.0, -1.0, 0.0, 0.6 / 128, 1.0, 2.0])
    assert slices.positions(slices.codes(v)).tolist() == [-1.0, -1.0, 0.0, 1 / 128, 127 / 128, 127 / 128]


def test_refusals():
    with pytest.raises(UserError, match=r"slice_bits=3 do not divide bits=8: give one of \[1, 2, 4, 8\]"):
        Codes(8, 3)
    for bits in (1, 12, 8.0):
        with pytest.raises(UserError, match=f"bits={bits} of a weight must be a whole number from 2 to 11"):
            Codes(bits, 1)
    with pytest.raises(UserError, match=r"slice_bits=2\.0 do not divide"):
        Codes(8, 2.0)
