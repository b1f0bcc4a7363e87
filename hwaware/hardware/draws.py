"""Random numbers that follow from what they are for, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from ctypes import CDLL, Array, c_int64, c_uint32, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from hwaware.compiling import compiled

#: Gaussians from which on a process has a compiler look for a faster way to them: they take torch a third of a second.
_WORTH_COMPILING = 100_000_000
_SMALLEST = 16  # values at a time; fewer torch draws otherwise
_WORDS = 625  # of 32 bits: a generator's state

_drawn = 0  # Gaussians, by this process


def hashed(key: str) -> int:
    """A whole number in [0, 2⁶⁴) that (but for chance) differs between different keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def seed_of(key: str) -> int:
    """A seed for torch's generators, which take signed ones, in [0, 2⁶³)."""
    return hashed(key) >> 1


def stream(key: str, torch_device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of the random numbers that a key names."""
    return torch.Generator(torch_device).manual_seed(seed_of(key))


class Gaussians:
    """The standard Gaussians that a key names: those of ``torch.randn`` by :func:`stream`, to the last bit.

    Faster where many are drawn, and functions that give torch's very values could be compiled.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._sizes: list[int] = []  # drawn so far, by the state
        self._state: Array[c_uint32] | None = None
        self._generator: torch.Generator | None = None

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The next ones, fp32, on the CPU."""
        global _drawn
        size = torch.Size(shape).numel()
        _drawn += size
        if self._generator is None and size >= _SMALLEST and (library := _library()) is not None:
            if self._state is None:
                self._state = (c_uint32 * _WORDS)()
                library.hwaware_seed(self._state, seed_of(self._key) % 2**32)
            values = torch.empty(shape)
            library.hwaware_randn(self._state, size, values.data_ptr())
            self._sizes.append(size)
            return values
        if self._generator is None:
            self._generator = stream(self._key)
            for drawn in self._sizes:  # catches up
                torch.randn(drawn, generator=self._generator)
        return torch.randn(shape, generator=self._generator)


def _library() -> CDLL | None:
    """The functions of ``draws.c``; None before they are worth compiling, and where they do not give torch's values."""
    return _compared() if _drawn > _WORTH_COMPILING else None


@cache
def _compared() -> CDLL | None:
    signatures = {"hwaware_seed": (c_void_p, c_uint32), "hwaware_randn": (c_void_p, c_int64, c_void_p)}
    headers = Path(torch.__file__).parent / "include"
    try:
        library = compiled(
            Path(__file__).with_suffix(".c"), signatures, [f"-I{headers}", "-ffp-contract=fast"], torch.__version__
        )
    except OSError:
        return None
    generator, state = torch.Generator().manual_seed(5), (c_uint32 * _WORDS)()
    library.hwaware_seed(state, 5)
    for size in (65_536, 999, 65_536):
        values = torch.empty(size)
        library.hwaware_randn(state, size, values.data_ptr())
        if not torch.equal(values, torch.randn(size, generator=generator)):
            return None
    return library
