"""Gaussians of a key by C functions are torch's."""

import pytest
import torch

from hwaware.hardware import draws
from hwaware.hardware.draws import Gaussians, stream


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(draws, "_drawn", draws._WORTH_COMPILING)
    if draws._compared() is None:
        pytest.skip("no compiler, or functions that do not give torch's values here")


@pytest.mark.parametrize("sizes", [(65_536, 65_536), (16, 17, 1000), (65_536, 7, 100), (5, 64)])
def test_to_the_last_bit(fast, monkeypatch, sizes):
    """Few values at a time torch draws in another way, from the same state."""
    for key in ("a/programming", "b/drift"):
        gaussians, generator = Gaussians(key), stream(key)
        for size in sizes:
            assert torch.equal(gaussians.draw((size,)), torch.randn(size, generator=generator))
    gaussians = Gaussians("c")
    monkeypatch.setattr(draws, "_compared", lambda: pytest.fail("by torch to the end, once begun"))
    monkeypatch.setattr(draws, "_drawn", 0)
    first = gaussians.draw((4, 16))
    monkeypatch.undo()
    generator = stream("c")
    assert torch.equal(first, torch.randn(4, 16, generator=generator))
    assert torch.equal(gaussians.draw((32,)), torch.randn(32, generator=generator))


def test_few_draws_do_not_have_it_compiled(monkeypatch):
    monkeypatch.setattr(draws, "_drawn", 0)
    monkeypatch.setattr(draws, "_compared", lambda: pytest.fail("compiled for nothing"))
    Gaussians("a").draw((1000,))
